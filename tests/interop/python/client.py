"""A gateway on the `websockets` library: connects over wss and prints a line for each thing that holds or does not.

Environment: HUB (https://host:port), CA (PEM file), ADMIN_TOKEN (its text).
"""

import asyncio
import json
import logging
import os
import ssl
import sys
import urllib.error
import urllib.request

import websockets
from websockets.asyncio.client import connect

HUB, CA, ADMIN_TOKEN = (os.environ[name] for name in ("HUB", "CA", "ADMIN_TOKEN"))
TLS = ssl.create_default_context(cafile=CA)
NAME = f"python websockets {websockets.__version__}"
CONNECT = HUB.replace("https://", "wss://") + "/api/internal/v1/ws/gateways/connect"


class Pings(logging.Handler):
    """Counts the pings that the library logs when it answers them."""

    seen = 0

    def emit(self, record):
        self.seen += record.getMessage().startswith("< PING")


def check(what, found, expected):
    if found != expected:
        print(f"FAIL  {NAME}: {what}: expected {expected!r}, found {found!r}", flush=True)
        sys.exit(1)
    print(f"ok    {NAME}: {what}", flush=True)


def call(method, path, body=None):
    request = urllib.request.Request(HUB + path, method=method, data=None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {ADMIN_TOKEN}")
    with urllib.request.urlopen(request, context=TLS, timeout=10) as answer:
        text = answer.read()
        return json.loads(text) if text else None


async def platform(method, path, body=None):
    return await asyncio.to_thread(call, method, path, body)


async def main():
    gateway = (await platform("POST", "/api/v1/gateways", {"name": "python"}))["id"]
    token = await platform("POST", f"/api/v1/gateways/{gateway}/tokens", {})
    pings = Pings()
    logger = logging.getLogger("interop")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(pings)
    headers = {"api-key": token["token"]}
    async with connect(
        CONNECT, ssl=TLS, additional_headers=headers, logger=logger, ping_interval=None, compression="deflate"
    ) as socket:
        ack = json.loads(await asyncio.wait_for(socket.recv(), 5))
        check("the first frame is the ack of its gateway", (ack["type"], ack["gatewayId"]), ("connection.ack", gateway))

        sent = []
        for number in range(3):
            payload = {"number": number, "text": "ä€😀" * 20_000 * number}
            answer = await platform(
                "POST", f"/api/v1/gateways/{gateway}/events", {"type": "interop.event", "payload": payload}
            )
            sent.append((number, answer["correlationId"], answer["position"], 1, len(payload["text"])))
        received = []
        for _ in sent:
            text = await asyncio.wait_for(socket.recv(), 5)
            event = json.loads(text)
            payload = event["payload"]
            received.append(
                (payload["number"], event["correlationId"], event["position"], isinstance(text, str), len(payload["text"]))
            )
        check("three events arrive whole and in order, as text", received, sent)

        pong = await socket.ping()
        await asyncio.wait_for(pong, 5)
        check("its own ping is answered", pong.done(), True)
        await asyncio.sleep(4)
        check("it answers the hub's pings and stays connected past the timeout", (pings.seen >= 3, socket.state.name), (True, "OPEN"))

        await platform("DELETE", f"/api/v1/gateways/{gateway}/tokens/{token['id']}")
        try:
            await asyncio.wait_for(socket.recv(), 2)
            closed = None
        except websockets.ConnectionClosed as error:
            closed = error.rcvd and (error.rcvd.code, error.rcvd.reason)
        check("revoking its token closes it with 1008", closed, (1008, "key revoked"))
    try:
        async with connect(CONNECT, ssl=TLS, additional_headers=headers):
            status = 101
    except websockets.InvalidStatus as error:
        status = error.response.status_code
    check("a revoked token is refused with 401", status, 401)


asyncio.run(main())
