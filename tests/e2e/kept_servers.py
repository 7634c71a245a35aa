"""Servers that close their connections politely on SIGTERM: HTTP/1.1 with WebSockets, and HTTP/2 (gRPC).

Run as a script: `kept_servers.py http|grpc`, with the port in the variable PORT.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import struct
import sys

HOST = "127.0.0.1"
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455
TEXT, CLOSE = 1, 8
GOING_AWAY = 1001
METHOD = "/longshore.Test/Echo"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
GREATEST = 2**31 - 1  # the number of a stream: with this, GOAWAY refuses none that is on its way


class Server:
    """Ends when it was closing and its last connection has ended."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._empty = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.closing.set)
        server = await asyncio.start_server(self._accept, HOST, int(os.environ["PORT"]))
        await self.closing.wait()
        server.close()
        while self._open:
            self._empty.clear()
            await self._empty.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._open.discard(writer)
            self._empty.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Http(Server):
    """Once it is closing, the next answer on a connection is the last one."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if key := header(head, b"sec-websocket-key"):
                writer.write(switch(key))
                await self.talk(reader, writer)
                return
            last = b"Connection: close\r\n" if self.closing.is_set() else b""
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + last + b"\r\nok")
            await writer.drain()
            if last:
                return

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo messages; when closing, the answer to one is followed by a close frame, and that is waited for."""
        while True:
            kind, message = await frame(reader)
            if kind == CLOSE:
                return
            writer.write(encode(kind, message))
            if self.closing.is_set():
                writer.write(encode(CLOSE, struct.pack(">H", GOING_AWAY)))
                while (await frame(reader))[0] != CLOSE:
                    pass
                return


def header(head: bytes, name: bytes) -> bytes:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((value.strip() for found, _, value in lines if found.lower() == name), b"")


def switch(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The opcode and the content of the next frame, which is short."""
    first, second = await reader.readexactly(2)
    mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
    content = await reader.readexactly(second & 0x7F)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))


def encode(kind: int, content: bytes, mask: bytes = b"") -> bytes:
    """A short frame; a client has to mask it."""
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content)) if mask else content
    return bytes([0x80 | kind, (0x80 if mask else 0) | len(content)]) + mask + body


class Grpc(Server):
    """Echoes gRPC messages over HTTP/2 (RFC 9113). Once it is closing, it says GOAWAY and serves what still comes."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(part(SETTINGS, 0, 0))
        farewell = asyncio.create_task(self._say_farewell(writer))
        messages: dict[int, bytes] = {}
        try:
            while True:
                head = await reader.readexactly(9)
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:]) & GREATEST
                content = await reader.readexactly(int.from_bytes(head[:3]))
                if kind in (SETTINGS, PING) and not flags & ACK:
                    writer.write(part(kind, ACK, 0, content if kind == PING else b""))
                elif kind == DATA:
                    messages[stream] = messages.get(stream, b"") + content
                    writer.write(part(WINDOW_UPDATE, 0, 0, len(content).to_bytes(4)) if content else b"")
                    if flags & END_STREAM:
                        writer.write(answer(stream, messages.pop(stream)))
        finally:
            farewell.cancel()

    async def _say_farewell(self, writer: asyncio.StreamWriter) -> None:
        await self.closing.wait()
        writer.write(part(GOAWAY, 0, 0, struct.pack(">II", GREATEST, 0)))


def part(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def answer(stream: int, message: bytes) -> bytes:
    """Header, message and trailer of a call that went well; names and values as HPACK literals."""
    begin = b"\x88" + literal(b"content-type", b"application/grpc")  # 0x88: ":status: 200"
    end = literal(b"grpc-status", b"0")
    frames = (part(HEADERS, END_HEADERS, stream, begin), part(DATA, 0, stream, message))
    return b"".join(frames) + part(HEADERS, END_HEADERS | END_STREAM, stream, end)


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


if __name__ == "__main__":
    asyncio.run({"http": Http, "grpc": Grpc}[sys.argv[1]]().run())
