#!/usr/bin/env node
// A warehouse: a program of somebody else, in another language, that takes part
// in the shop over RabbitMQ. It hears of orders and of goods that left the
// stock, takes them off its own shelves, counts the shelf, and says how many it
// found. Inventory corrects its stock by that.
//
//   node warehouse.js --url amqp://guest:guest@localhost/ --state shelves.json
//
// shelves.json is what it knows, {"shelves":{"tea":95}} to begin with.

import { randomBytes } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import amqp from "amqplib";
import { CloudEvent } from "cloudevents";

const { values: options } = parseArgs({
  options: {
    url: { type: "string", default: process.env.COURANTE_RABBITMQ_URL ?? "amqp://guest:guest@localhost/" },
    exchange: { type: "string", default: "courante" },
    state: { type: "string", default: "shelves.json" },
    place: { type: "string", default: "north" },
  },
});

const source = `/warehouse/${options.place}`;
const queue = `warehouse-${options.place}`;

// What has been handled is remembered with the shelves, in one file that is
// replaced in one step: a message that comes again changes nothing.
const state = { shelves: {}, orders: {}, handled: {}, ...JSON.parse(readFileSync(options.state, "utf8")) };

function save() {
  writeFileSync(`${options.state}.new`, JSON.stringify(state));
  renameSync(`${options.state}.new`, options.state);
}

// read makes a CloudEvent of a message in binary mode: the attributes are
// headers, the data is the body.
function read(message) {
  const attributes = {};
  for (const [name, value] of Object.entries(message.properties.headers ?? {})) {
    const match = /^cloudEvents[:_]([a-z0-9]+)$/.exec(name);
    if (match) attributes[match[1]] = value;
  }
  return new CloudEvent({ ...attributes, data: JSON.parse(message.content.toString("utf8")) });
}

// next continues a trace: the same trace, and a span of our own.
function next(traceparent) {
  const [version, trace, , flags] = (traceparent ?? "").split("-");
  return flags === undefined ? undefined : [version, trace, randomBytes(8).toString("hex"), flags].join("-");
}

// handle returns what there is to say about an event. It changes the state,
// which is saved when everything was said.
function handle(event) {
  const order = event.data.order_id;
  switch (event.type) {
    case "shop.order_created":
      state.orders[order] = event.data.lines.filter((line) => line.kind === "goods").map(({ sku, quantity }) => ({ sku, quantity }));
      return [];
    case "shop.inventory_issued": {
      const counts = [];
      for (const { sku, quantity } of state.orders[order] ?? []) {
        if (!(sku in state.shelves)) continue; // another warehouse's
        state.shelves[sku] -= quantity;
        counts.push(
          new CloudEvent({
            // The same event gives the same id, so that it counts once even if
            // we are killed here and say it again.
            id: `${event.source}/${event.id}/${sku}`,
            source,
            type: "warehouse.stock_counted",
            subject: sku,
            data: { sku, on_hand: state.shelves[sku], place: options.place },
            correlationid: event.correlationid ?? order,
            ...(event.traceparent ? { traceparent: next(event.traceparent) } : {}),
          }),
        );
      }
      delete state.orders[order];
      return counts;
    }
    default:
      return [];
  }
}

// say publishes a CloudEvent in binary mode and returns when RabbitMQ has it. A
// message that no queue takes comes back, and is a failure.
async function say(channel, event) {
  const headers = {};
  for (const [name, value] of Object.entries(event.toJSON())) {
    if (name !== "data" && name !== "datacontenttype" && value !== undefined) headers[`cloudEvents:${name}`] = String(value);
  }
  let returned = false;
  const back = (message) => {
    if (message.properties.messageId === event.id) returned = true;
  };
  channel.on("return", back);
  channel.publish(options.exchange, event.type, Buffer.from(JSON.stringify(event.data)), {
    contentType: "application/json",
    persistent: true,
    mandatory: true,
    messageId: event.id.slice(-255),
    headers,
  });
  await channel.waitForConfirms();
  channel.off("return", back);
  if (returned) throw new Error(`nobody takes ${event.type}; is inventory running?`);
}

async function work() {
  const connection = await amqp.connect(options.url, { clientProperties: { connection_name: `warehouse ${options.place}` } });
  const channel = await connection.createConfirmChannel();
  const ended = new Promise((_, fail) => {
    connection.on("error", fail);
    connection.on("close", () => fail(new Error("the connection is closed")));
    channel.on("error", fail);
  });
  ended.catch(() => {});
  await channel.assertExchange(options.exchange, "topic", { durable: true });
  await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum", "x-single-active-consumer": true } });
  for (const type of ["shop.order_created", "shop.inventory_issued"]) await channel.bindQueue(queue, options.exchange, type);
  await channel.prefetch(50);

  // One after the other: that keeps the order of the queue.
  let turn = Promise.resolve();
  const failed = new Promise((_, fail) => {
    channel.consume(queue, (message) => {
      if (message === null) return fail(new Error("the queue was deleted"));
      turn = turn.then(async () => {
        let event;
        try {
          event = read(message);
        } catch (error) {
          console.error(`not a CloudEvent, put aside: ${error.message}`);
          return channel.reject(message, false);
        }
        const name = `${event.source}/${event.id}`;
        if (!state.handled[name]) {
          for (const count of handle(event)) {
            await say(channel, count);
            console.log(JSON.stringify({ counted: count.data, trace: count.traceparent, because: name }));
          }
          state.handled[name] = true;
          save();
        }
        channel.ack(message);
      });
      turn.catch(fail);
    });
  });
  console.log(JSON.stringify({ ready: true, queue }));
  await Promise.race([ended, failed]);
}

for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));

for (let pause = 100; ; pause = Math.min(2 * pause, 10_000)) {
  const before = Date.now();
  try {
    await work();
  } catch (error) {
    console.error(`${error.message}; trying again`);
    // What was changed and not said is forgotten, and done again.
    Object.assign(state, { shelves: {}, orders: {}, handled: {} }, JSON.parse(readFileSync(options.state, "utf8")));
  }
  if (Date.now() - before > 30_000) pause = 100;
  await new Promise((resolve) => setTimeout(resolve, pause));
}
