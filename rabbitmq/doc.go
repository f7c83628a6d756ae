// Package rabbitmq carries messages between processes over RabbitMQ: it is a
// [courante.Broker].
//
//	broker, err := rabbitmq.Open(ctx, rabbitmq.Config{URLs: []string{"amqp://rabbit-1", "amqp://rabbit-2"}})
//	defer broker.Close()
//
// # Queues
//
// Each lane of a subscriber has a quorum queue, which the members of a cluster
// keep on disk. It has a single active consumer: of all processes that consume
// it RabbitMQ serves one, and another when that one goes.
//
// A message is published once, to a topic exchange, with its event's type as
// the routing key. RabbitMQ's CC header names the queues that it is for, so one
// confirmation stands for all of them. Whoever else wants events binds a queue
// of their own to the exchange, by type: "shop.#".
//
// # Messages
//
// An event is a CloudEvents 1.0 message in binary mode: its payload is the
// body, its attributes are headers. Any language has a library that reads it.
//
// # What can be lost
//
// Nothing that was confirmed, as long as a majority of a queue's members keeps
// its disk, with one exception: RabbitMQ drops a message silently for a queue
// that is not there, if another queue or somebody's binding takes it. That
// happens when a queue is deleted by hand. The links of the messages that
// follow tell the lane, which asks for what it missed; see [courante.Message].
//
// Between a failure and its repetition messages can come twice, and the
// repeated ones behind later ones. The links tell that as well.
package rabbitmq
