// Package inventory keeps the stock and sets goods aside for orders: all that an
// order wants, or nothing.
//
// A stock row is hot (a popular product is in thousands of orders) and nobody
// folds its history, so states are stored as they are: one row for each SKU,
// one for each order's reservation. Both change in one transaction with the
// events that tell of it, under row locks, so stock is never sold twice.
//
//	available = on hand - reserved
//
// Reserving raises reserved; shipping takes the goods off both; releasing
// lowers reserved; what customers return raises on hand.
package inventory
