// A gateway on the `ws` library: connects over wss and prints a line for each thing that holds or does not.
//
// Environment: HUB (https://host:port), CA (PEM file), ADMIN_TOKEN (its text).

import assert from 'node:assert';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';

const { HUB, CA, ADMIN_TOKEN } = process.env;
const ca = readFileSync(CA);
const NAME = `node ws ${createRequire(import.meta.url)('ws/package.json').version}`;
const CONNECT = `${HUB.replace('https://', 'wss://')}/api/internal/v1/ws/gateways/connect`;

function check(what, found, expected) {
  try {
    assert.deepStrictEqual(found, expected);
  } catch {
    console.log(`FAIL  ${NAME}: ${what}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
    process.exit(1);
  }
  console.log(`ok    ${NAME}: ${what}`);
}

function platform(method, path, body) {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  return new Promise((resolve, reject) => {
    const request = https.request(HUB + path, { method, ca, headers }, async (answer) => {
      let text = '';
      for await (const part of answer) text += part;
      if (answer.statusCode >= 300) reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
      else resolve(text ? JSON.parse(text) : null);
    });
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function within(milliseconds, what, promise) {
  const late = sleep(milliseconds, undefined, { ref: false }).then(() => {
    throw new Error(`${what}: nothing within ${milliseconds} ms`);
  });
  return Promise.race([promise, late]);
}

const gateway = (await platform('POST', '/api/v1/gateways', { name: 'node' })).id;
const token = await platform('POST', `/api/v1/gateways/${gateway}/tokens`, {});
const headers = { 'api-key': token.token };
const socket = new WebSocket(CONNECT, { ca, headers });
const inbox = [];
let pings = 0;
socket.on('message', (data, isBinary) => inbox.push({ text: data.toString(), isBinary }));
socket.on('ping', () => (pings += 1));
const closed = once(socket, 'close');

async function receive() {
  const before = Date.now();
  while (inbox.length === 0) {
    if (Date.now() - before > 5000) throw new Error('no message within 5 s');
    await sleep(2);
  }
  return inbox.shift();
}

const ack = JSON.parse((await receive()).text);
check('the first frame is the ack of its gateway', [ack.type, ack.gatewayId], ['connection.ack', gateway]);

const sent = [];
for (let number = 0; number < 3; number += 1) {
  const payload = { number, text: 'ä€😀'.repeat(20000 * number) };
  const answer = await platform('POST', `/api/v1/gateways/${gateway}/events`, { type: 'interop.event', payload });
  sent.push([number, answer.correlationId, answer.position, false, payload.text.length]);
}
const received = [];
for (const _ of sent) {
  const { text, isBinary } = await receive();
  const event = JSON.parse(text);
  received.push([event.payload.number, event.correlationId, event.position, isBinary, event.payload.text.length]);
}
check('three events arrive whole and in order, as text', received, sent);

const pong = once(socket, 'pong');
socket.ping('hello');
check('its own ping is answered', (await within(5000, 'pong', pong))[0].toString(), 'hello');
await sleep(4000);
check(
  "it answers the hub's pings and stays connected past the timeout",
  [pings >= 3, socket.readyState],
  [true, WebSocket.OPEN],
);

await platform('DELETE', `/api/v1/gateways/${gateway}/tokens/${token.id}`);
const [code, reason] = await within(2000, 'close', closed);
check('revoking its token closes it with 1008', [code, reason.toString()], [1008, 'key revoked']);

const again = new WebSocket(CONNECT, { ca, headers });
again.on('error', () => {});
const [, response] = await within(5000, 'refusal', once(again, 'unexpected-response'));
check('a revoked token is refused with 401', response.statusCode, 401);
process.exit(0);
