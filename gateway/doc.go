// Package gateway is the HTTP edge: it carries the manners that every route has
// in common, so that a bounded context only declares its operations on a
// huma.API and returns errors of the vocabulary.
//
//	gw, err := gateway.New(gateway.Config{Title: "The shop", Version: "1"})
//	...
//	ordering.Routes(gw.API())
//	inventory.Routes(gw.API())
//	server := gw.Server("127.0.0.1:8080")
//
// What it sees to:
//
//   - Errors are problems of RFC 9457, with a JSON pointer to each thing that is
//     wrong. The table from errors to statuses is in problem.go, and only there.
//     What an error says inside goes to the log, never to the caller.
//   - Bodies are strict JSON (json.go): what two readers could understand
//     differently is refused.
//   - Overload is answered with 503 and Retry-After before any work is done.
//   - Every request has a span, a log line, a size limit and a time limit.
package gateway
