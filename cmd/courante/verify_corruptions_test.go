//go:build linux || darwin

package main

import (
	"fmt"
	"strings"
)

// corruption is a way in which a system can be off, and what has to be said.
type corruption struct {
	rule  string
	sql   string
	check string
	row   string // of the finding, or a part of it
	says  string // the same of its detail
	stuck bool   // nothing is wrong, but something is stuck
}

var corruptions = []corruption{
	// The log.
	{rule: "an event is gone", sql: `delete from ordering.event where stream = 'order:good' and version = 3`,
		check: "streams", row: "ordering/order:good@4", says: "version 3 is missing"},
	{rule: "the last event of a stream is gone", sql: `delete from ordering.event where stream = 'order:good' and type = 'shop.order_confirmed'`,
		check: "reactions", row: "notification/mail:good@1", says: "is not in the log"},
	{rule: "an event is there twice", sql: copyEvent("payment", "payment:good", "shop.payment_processed", "version + 1"),
		check: "reactions", row: "payment/payment:good@4", says: "handled twice"},
	{rule: "a receipt is there twice", sql: copyEvent("inventory", "stock:tea", "shop.stock_adjusted", "version + 1"),
		check: "reactions", row: "inventory/stock:tea@3", says: "handled twice"},
	{rule: "a version is another", sql: `update shipping.event set version = 9 where stream = 'shipment:good' and version = 3`,
		check: "streams", row: "shipping/shipment:good@9", says: "versions 3 to 8 are missing"},
	{rule: "a stream is out of order", sql: `update payment.event set position = 0 where stream = 'payment:good' and version = 3`,
		check: "streams", row: "payment/payment:good@3", says: "comes before version 2"},
	{rule: "an event is of an epoch that nobody knows", sql: `update payment.event set epoch = epoch - 1 where stream = 'payment:good' and version = 3`,
		check: "streams", row: "payment/payment:good@3", says: "none ever will"},
	{rule: "an epoch is not known", sql: `delete from courante.epoch`,
		check: "ticks", row: "courante.tick ordering 1", says: "is not known"},
	{rule: "a tick is gone", sql: `delete from courante.tick where log = 'payment' and n = 2`,
		check: "ticks", row: "courante.tick payment 3", says: "those between are missing"},
	{rule: "the first tick is gone", sql: `delete from courante.tick where log = 'payment' and n = 1`,
		check: "ticks", row: "courante.tick payment 2", says: "tick 1 is missing"},
	{rule: "a tick sees less than the one before", sql: `update courante.tick set snapshot = '1:1:' where log = 'payment' and n = 3`,
		check: "ticks", row: "courante.tick payment 3", says: "does not see all"},
	{rule: "the last tick is gone", sql: `delete from courante.tick t where n = (select max(n) from courante.tick where log = t.log)`,
		check: "lanes", row: ".progress ", says: "does not have"},
	{rule: "a tick has other contents", sql: `update courante.tick t set epoch = epoch + 1 where n = (select max(n) from courante.tick where log = t.log)`,
		check: "lanes", row: ".progress ", says: "other contents"},

	// Lanes and reactions.
	{rule: "a row of progress is gone", sql: `delete from payment.progress where subscriber = 'payment' and log = 'ordering' and n = 1`,
		check: "lanes", row: "payment.progress payment on ordering", says: "those between are missing"},
	{rule: "the last row of progress is gone", sql: `delete from payment.progress p where log = 'inventory' and n = (select max(n) from payment.progress where subscriber = p.subscriber and log = p.log and lane_epoch = p.lane_epoch and k = p.k)`,
		check: "reactions", row: "payment/payment:", says: "its progress was lost"},
	{rule: "a lane has gone back", sql: `update payment.progress p set (epoch, tick, position, hash) = (select epoch, tick, position, hash from payment.progress
			where n = 0 and subscriber = p.subscriber and log = p.log and lane_epoch = p.lane_epoch and k = p.k) where n = 2`,
		check: "lanes", row: "payment.progress payment on", says: "which is before"},
	{rule: "a lane epoch is gone", sql: `delete from shipping.lane_epoch where log = 'payment'`,
		check: "lanes", row: "shipping.progress shipping on payment", says: "no such lane epoch"},
	{rule: "a reaction did not happen", sql: `delete from shipping.event where stream = 'shipment:declined'`,
		check: "reactions", row: "ordering/order:declined@1", says: `did not "note the order"`},
	{rule: "a reaction did something else", sql: `update shipping.event set type = 'shipping.refused' where stream = 'shipment:good' and version = 1`,
		check: "reactions", row: "shipping/shipment:good@1", says: "declares no step"},
	{rule: "an event that nobody declares", sql: `update shipping.event set type = 'shipping.lost' where stream = 'shipment:good' and version = 1`,
		check: "reactions", row: "shipping/shipment:good@1", says: "does not declare"},
	{rule: "an event of a cause that is not there", sql: `update ordering.event set causation = 'payment/payment:other@1' where stream = 'order:good' and version = 3`,
		check: "reactions", row: "ordering/order:good@3", says: "is not in the log"},

	// Effects and deadlines, orders that hang.
	{rule: "an outcome that does not end its effect", sql: `update payment.event set notes = null where stream = 'payment:good' and type = 'shop.payment_processed'`,
		check: "effects", row: "payment/payment:good@3", says: "does not end it"},
	{rule: "an effect that ends twice", sql: `update payment.event t set notes = (select notes from payment.event where stream = t.stream and type = 'shop.payment_processed')
			where stream = 'payment:good' and version = 1`,
		check: "effects", row: "payment/payment:good@1", says: "which is not open"},
	{rule: "an order hangs beyond its deadline", sql: forget("good") + `;
			update ordering.event set at = at - interval '1 hour', notes = replace(notes::text, to_char(now(), 'YYYY-'), '2020-')::json where stream = 'order:good'`,
		check: "orders", row: "order good", says: "has not ended"},
	{rule: "a deadline did not fire", sql: forget("good") + `;
			update ordering.event set at = at - interval '1 hour', notes = replace(notes::text, to_char(now(), 'YYYY-'), '2020-')::json where stream = 'order:good'`,
		check: "effects", row: "ordering/order:good", says: "nothing came of it"},
	{rule: "nothing is to come", sql: `delete from ordering.event where stream = 'order:short' and version = 2;
			insert into ordering.event select e.* from ordering.event e where false`,
		check: "orders", row: "order short", says: "has not ended"},
	{rule: "the post does not answer", sql: `delete from notification.event where stream = 'mail:good' and version = 2;
			update notification.event set at = at - interval '1 hour' where stream = 'mail:good'`,
		check: "orders", row: "order good", says: "does not answer notification/mail:good@1/mail", stuck: true},
	{rule: "a message is parked", sql: `insert into payment.parked (attempts, subscriber, reaction, key, cause, program, event, data)
			select 6, 'payment', 'charge', 'good', 'no such luck', 'test', json_build_object('log', 'inventory', 'stream', stream, 'version', version), data
			from inventory.event where stream = 'reservation:good' and version = 1`,
		check: "orders", row: "order good", says: `payment has parked inventory/reservation:good@1 ("charge"): no such luck`, stuck: true},
	{rule: "a lane is behind", sql: `insert into ordering.event (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
			select 1, now() - interval '1 hour', part, epoch, schema, 'order:new', type, 'new', 'command:new', subject, trace, replace(data::text, '"free"', '"new"')::json
			from ordering.event where stream = 'order:free' and version = 1`,
		check: "orders", row: "order new", says: "behind ordering/order:new@1", stuck: true},
	{rule: "an order without its beginning", sql: `delete from ordering.event where stream = 'order:declined'`,
		check: "orders", row: "inventory/reservation:declined@1", says: "there is no such order"},

	// Money and parcels.
	{rule: "a charge is gone", sql: `delete from outside.ledger where book = 'charges' and key = 'order:good'`,
		check: "money", row: "order good", says: "the provider took 0 GBP"},
	{rule: "a charge of nobody", sql: `insert into outside.ledger (book, key, row) values ('charges', 'order:ghost', '{"state":"approved","amount":1,"currency":"GBP"}')`,
		check: "money", row: "outside.ledger charges order:ghost", says: "there is no such order"},
	{rule: "a charge under another key", sql: `insert into outside.ledger (book, key, row) values ('charges', 'ghost', '{"state":"approved","amount":1,"currency":"GBP"}')`,
		check: "money", row: "outside.ledger charges ghost", says: "there is no such order"},
	{rule: "a charge that nobody asked for", sql: `insert into outside.ledger (book, key, row) values ('charges', 'order:free', '{"state":"approved","token":"tok_ok","amount":0,"currency":"GBP"}')`,
		check: "money", row: "outside.ledger charges order:free", says: "never asked for"},
	{rule: "the provider took another amount", sql: ledgerSet("charges", "good", "amount", "901"),
		check: "money", row: "outside.ledger charges order:good", says: "901 GBP"},
	{rule: "the sum of all is another", sql: ledgerSet("charges", "good", "amount", "901"),
		check: "money", row: "all of GBP", says: "the provider took"},
	{rule: "money is kept for an order that was cancelled", sql: ledgerSet("charges", "nobody", "state", `"approved"`),
		check: "money", row: "outside.ledger charges order:nobody", says: "gave 0 GBP back; our events say 900 GBP and 900 GBP"},
	{rule: "our event says another amount", sql: eventSet("payment", "payment:good", "shop.payment_processed", "{amount,amount}", "899"),
		check: "money", row: "order good", says: "899 GBP were taken for it and its total is 900 GBP"},
	{rule: "a total is not that of the lines", sql: eventSet("ordering", "order:good", "shop.order_created", "{lines,0,unit_price}", "451"),
		check: "money", row: "order good", says: "its lines add up to 902 GBP"},
	{rule: "a refund was never made", sql: `update outside.ledger set row = (row::jsonb - 'refunds')::json where book = 'charges' and key = 'order:part'`,
		check: "money", row: "outside.ledger charges order:part", says: "the provider gave 0 back"},
	{rule: "a refund of no return", sql: ledgerSet("charges", "good", "refunds", `{"order:good/return:x": 5}`),
		check: "money", row: "outside.ledger charges order:good", says: "there is no such return"},
	{rule: "a refund is not that of its lines", sql: eventSet("ordering", "order:part", "shop.return_requested", "{refund,amount}", "449"),
		check: "money", row: "of order part", says: "its lines cost 450 GBP"},
	{rule: "more is returned than was bought", sql: eventSet("ordering", "order:part", "shop.return_requested", "{lines,0,quantity}", "3"),
		check: "orders", row: "of order part", says: "1 more are returned than were bought"},
	{rule: "all goods are back and the order does not say so", sql: `delete from ordering.event where stream = 'order:back' and type = 'shop.order_returned'`,
		check: "orders", row: "order back", says: "that all are returned was said: false"},
	{rule: "a booking is gone", sql: `delete from outside.ledger where book = 'bookings' and key = 'order:good'`,
		check: "shipments", row: "order good", says: "the carrier has no booking"},
	{rule: "a booking of nobody", sql: `insert into outside.ledger (book, key, row) values ('bookings', 'order:ghost', '{"tracking":"X"}')`,
		check: "shipments", row: "outside.ledger bookings order:ghost", says: "there is no such order"},
	{rule: "a parcel of an order that was cancelled", sql: `insert into outside.ledger (book, key, row) values ('bookings', 'order:declined', '{"tracking":"X","country":"GB"}')`,
		check: "shipments", row: "outside.ledger bookings order:declined", says: "not shipped"},
	{rule: "another tracking number", sql: ledgerSet("bookings", "good", "tracking", `"X"`),
		check: "shipments", row: "outside.ledger bookings order:good", says: `"X"`},

	// Stock and states.
	{rule: "the stock is another", sql: stateSet("stock:tea", "{on_hand}", "1000"),
		check: "stock", row: "inventory.state stock:tea", says: "there are 1000 on hand"},
	{rule: "something stays reserved", sql: stateSet("stock:tea", "{reserved}", "2"),
		check: "stock", row: "inventory.state stock:tea", says: "2 reserved"},
	{rule: "the stock was negative for a while", sql: eventSet("inventory", "stock:tea", "shop.stock_received", "{quantity}", "1"),
		check: "stock", row: "SKU tea", says: "there were"},
	{rule: "an event tells of another stock", sql: eventSet("inventory", "stock:tea", "shop.stock_adjusted", "{on_hand}", "1"),
		check: "stock", row: "inventory/stock:tea@2", says: "it says that there are 1 on hand"},
	{rule: "the stock of a SKU is gone", sql: `delete from inventory.state where stream = 'stock:tea'`,
		check: "stock", row: "inventory.state stock:tea", says: "it is missing"},
	{rule: "a reservation is gone", sql: `delete from inventory.state where stream = 'reservation:good'`,
		check: "states", row: "inventory.state reservation:good", says: "it is missing"},
	{rule: "a reservation holds something still", sql: stateSet("reservation:good", "{items}", `[{"sku": "tea", "quantity": 2}]`),
		check: "states", row: "inventory.state reservation:good", says: "it holds map[tea:2]"},
	{rule: "a reservation remembers something else", sql: stateSet("reservation:good", "{past}", `[]`),
		check: "states", row: "inventory.state reservation:good", says: "it says that [] happened"},
	{rule: "a state is at another version", sql: `update inventory.state set version = version + 1 where stream = 'reservation:good'`,
		check: "states", row: "inventory.state reservation:good", says: "its stream has 2 events"},
	{rule: "a state of nothing", sql: `insert into inventory.state (row_version, version, stream, data) values (1, 0, 'reservation:free:x', '{"past": []}')`,
		check: "states", row: "inventory.state reservation:free:x", says: "there is no such order"},
	{rule: "a baseline is another", sql: baseline(`"customer_id": "0"`),
		check: "states", row: "ordering.snapshot order:good, version 1", says: "its customer_id is 0, and the log says 17850"},
	{rule: "a baseline waits for something else", sql: baseline(`"customer_id": "17850"`),
		check: "states", row: "ordering.snapshot order:good, version 1", says: "it waits for []"},

	// What is derived.
	{rule: "a row of the list is another", sql: `update ordering.order_list set status = 'paid' where order_id = 'good'`,
		check: "order list", row: "ordering.order_list good", says: "paid"},
	{rule: "a row of the list is gone", sql: `delete from ordering.order_list where order_id = 'good'`,
		check: "order list", row: "ordering.order_list good", says: "there are 0 rows"},
	{rule: "a row of the list of no order", sql: `insert into ordering.order_list select version, total, created_at, lines, 'ghost', customer_id, status, currency from ordering.order_list where order_id = 'good'`,
		check: "order list", row: "ordering.order_list ghost", says: "there is no such order"},
	{rule: "an answer of a commit that is not there", sql: `update ordering.reply set xid = '3' where key like '%good'`,
		check: "replies", row: "key-of-good", says: "transaction 3"},
	{rule: "an answer about an order that is not there", sql: `update ordering.reply set body = jsonb_set(body::jsonb, '{order_id}', '"ghost"')::json where key like '%good'`,
		check: "replies", row: "key-of-good", says: "order ghost is not in the log"},
}

// copyEvent inserts an event again.
func copyEvent(schema, stream, typ, version string) string {
	return fmt.Sprintf(`insert into %s.event (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select %s, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data
		from %s.event where stream = '%s' and type = '%s'`, schema, version, schema, stream, typ)
}

func eventSet(schema, stream, typ, path, value string) string {
	return fmt.Sprintf(`update %s.event set data = jsonb_set(data::jsonb, '%s', '%s')::json where stream = '%s' and type = '%s'`, schema, path, value, stream, typ)
}

func stateSet(stream, path, value string) string {
	return fmt.Sprintf(`update inventory.state set data = jsonb_set(data::jsonb, '%s', '%s')::json where stream = '%s'`, path, value, stream)
}

func ledgerSet(book, id, field, value string) string {
	return fmt.Sprintf(`update outside.ledger set row = jsonb_set(row::jsonb, '{%s}', '%s')::json where book = '%s' and key = 'order:%s'`, field, value, book, id)
}

// baseline inserts one of order good at version 1, with a field of its state set.
func baseline(field string) string {
	return fmt.Sprintf(`insert into ordering.snapshot (version, stream, data)
		select 1, stream, json_build_object('shape', '', 'state', data::jsonb || '{%s, "refunded": {"currency": "GBP"}, "past": ["shop.order_created"]}')
		from ordering.event where stream = 'order:good' and version = 1`, field)
}

// forget takes away all that came after an order was placed.
func forget(id string) string {
	var b strings.Builder
	for _, log := range []string{"ordering", "inventory", "payment", "shipping", "notification"} {
		fmt.Fprintf(&b, `delete from %s.event where stream like '%%:%s' and stream <> 'order:%s' or stream = 'order:%s' and version > 1;`, log, id, id, id)
	}
	return b.String() + fmt.Sprintf(`delete from inventory.state where stream = 'reservation:%s'; delete from outside.ledger where key = 'order:%s';
		update ordering.order_list set status = 'created', version = 1 where order_id = '%s'`, id, id, id)
}
