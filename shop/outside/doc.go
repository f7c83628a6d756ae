// Package outside plays the parties that the shop calls but does not own: a
// payment provider and a carrier. They behave as such systems do: each keeps a
// durable ledger of its own, on its own connections and never in a transaction
// of ours; a call with a key that was used before gets the answer of the first;
// replies come late, are lost, or never come.
//
//	ledger, err := outside.OpenLedger(ctx, connString) // or outside.NewMemoryLedger()
//	provider := outside.NewProvider(ledger, outside.Config{})
//	carrier := outside.NewCarrier(ledger, outside.Config{})
//
// What a payment does is chosen by its token, what a shipment does by its
// country; see [Provider.Charge] and [Carrier.Book].
package outside
