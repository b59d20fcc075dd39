"""A real S3 server on loopback that can be killed, and a way to it that can be slow, cut or shut."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.service.sweeps import free_port, wait_for

BUCKET = "lab"
USER = "reader-and-writer"
POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


class StoreServer:
    """moto's S3 in a process of its own. What it holds is gone with it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._log = folder / "store.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._is_up, "the S3 server", 60)
        self.client("s3").create_bucket(Bucket=BUCKET)

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.address}/moto-api/", timeout=2).close()
            return True
        return False

    def client(self, service: str):  # type: ignore[no-untyped-def]
        """boto3's, past any proxy."""
        import boto3

        return boto3.client(
            service, endpoint_url=self.address, region_name="us-east-1",
            aws_access_key_id="anybody", aws_secret_access_key="at all",
        )  # fmt: skip

    def names(self, prefix: str = "") -> set[str]:
        """Every object below a prefix of the bucket."""
        pages = self.client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=BUCKET, Prefix=prefix)
        return {one["Key"] for page in found for one in page.get("Contents", ())}

    def content(self, name: str) -> bytes:
        """One object."""
        return bytes(self.client("s3").get_object(Bucket=BUCKET, Key=name)["Body"].read())

    def key_of_a_user(self) -> tuple[str, str]:
        """A user's id and secret; from now on the server asks who comes."""
        iam = self.client("iam")
        iam.create_user(UserName=USER)
        key = iam.create_access_key(UserName=USER)["AccessKey"]
        iam.put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=POLICY)
        self.asks_who_comes(True)
        return key["AccessKeyId"], key["SecretAccessKey"]

    def asks_who_comes(self, asks: bool) -> None:
        """Whether credentials are looked at."""
        request = urllib.request.Request(
            f"{self.address}/moto-api/reset-auth",
            data=b"0" if asks else b"inf",
            headers={"Content-Type": "text/plain"},
        )
        urllib.request.urlopen(request, timeout=5).close()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


class Way:
    """A proxy on loopback to a server: as it is told, it lets pass, cuts off, slows down or refuses."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.cut_after: int | None = None
        """Bytes sent to the server in one connection after which it is cut off."""
        self.is_shut = False
        self.bytes_per_s: float | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_shut:
                client.close()
                continue
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self.to)) as server,
        ):
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            sent = 0
            while chunk := client.recv(16384):
                sent += len(chunk)
                if self.is_shut or (self.cut_after is not None and sent > self.cut_after):
                    self.cuts += 1
                    return
                if self.bytes_per_s is not None:
                    time.sleep(len(chunk) / self.bytes_per_s)
                server.sendall(chunk)

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def store_server(folder: Path) -> Iterator[StoreServer]:
    """A running server, gone at the end."""
    server = StoreServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def variables(address: str, key: tuple[str, str] = ("anybody", "at all")) -> dict[str, str]:
    """The environment of who uses the store at this address."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": key[0],
        "AWS_SECRET_ACCESS_KEY": key[1],
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def without_store() -> dict[str, str]:
    """This environment without anything of a store."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
