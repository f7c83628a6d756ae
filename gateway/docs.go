package gateway

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html"
	"net/http"
	"strings"
)

// The page that shows the API's description to people. It is ours, and needs
// nothing from other hosts: the usual viewers are megabytes of script from a
// content network, which a closed network does not reach and a careful one does
// not trust.
var (
	//go:embed docs.html
	docsPage string
	//go:embed docs.js
	docsScript string
)

func docs(title string) http.HandlerFunc {
	sum := sha256.Sum256([]byte(docsScript))
	policy := "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; " +
		"script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	page := strings.NewReplacer("{{title}}", html.EscapeString(title), "{{script}}", docsScript).Replace(docsPage)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write([]byte(page)) // the caller is gone if it fails
	}
}
