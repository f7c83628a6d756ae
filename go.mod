module github.com/courante-dev/courante

go 1.26
