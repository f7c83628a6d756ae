// Package ordering takes orders and says how they stand. It begins the saga of
// an order, follows what the other contexts do about it, and ends it.
//
// An order is event-sourced: its stream is its history, which customers see as
// the timeline. Its events are in events.go, the steps that it takes in
// steps.go, its two commands in commands.go, and the HTTP routes in http.go.
// Returns have files of their own: the command, the saga of a return with its
// stream, and the lines that were bought, which only returns ask for.
//
// The list of orders is a projection of their events into a table: list.go
// keeps it, list_query.go reads it.
//
// The steps hold in any order of arrival. What happened is remembered by event
// type ([courante.Past]); a step's When and Unless, which the saga's static
// check reads, are also what guards it at run time.
package ordering
