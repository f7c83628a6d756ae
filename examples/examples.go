// Package examples holds domains that are built on the public API alone. They
// are compiled and tested like everything else, and "courante new" copies one.
package examples

import "embed"

// Library is the folder library: two services, their tests, and a program.
//
//go:embed library/*.go library/*.sql library/README.md library/.gitignore
var Library embed.FS
