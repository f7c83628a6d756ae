// Package notification tells customers by mail what became of their orders. It
// follows the saga and is no part of it: a mail that cannot be sent is tried
// again and never holds an order.
package notification
