"""Certificates for the listeners with TLS: an authority of our own and what it signs, made anew when they run out."""

import time

from harness import fetch

DAYS = 30


def make(work):
    """The folder with `ca.pem`, and a `.pem` and a `.key` of `broker` and of `client`."""
    folder = work / "certificates"
    authority = folder / "ca.pem"
    if not authority.exists() or time.time() - authority.stat().st_mtime > (DAYS - 2) * 86400:
        folder.mkdir(exist_ok=True)
        openssl(folder, *"req -x509 -new -newkey rsa:2048 -noenc -subj /CN=judges -keyout ca.key -out ca.pem".split())
        for name in ["broker", "client"]:
            sign(folder, folder / "ca.pem", folder / "ca.key", name)
    return folder


def sign(folder, authority, key, name):
    """`name.pem` and `name.key` in the folder, for this machine, signed by the authority."""
    openssl(folder, *f"req -new -newkey rsa:2048 -noenc -subj /CN={name} -keyout {name}.key -out {name}.csr".split())
    (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    by = ["-CA", authority, "-CAkey", key, "-CAcreateserial", "-extfile", f"{name}.ext"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *by, "-days", str(DAYS), "-out", f"{name}.pem")


def openssl(folder, *arguments):
    fetch("certificates", ["openssl", *arguments], seconds=60, cwd=folder)
