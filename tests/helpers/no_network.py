"""Processes that may talk to their own machine only; whom else they ask is written down, and refused."""

from pathlib import Path

GUARD = r"""
import socket
def note(address):
    host = str(address[0] if isinstance(address, tuple) else address)
    if host.startswith(("127.", "/", "\0")) or host in ("localhost", "::1", "", "None", "0.0.0.0"):
        return
    with open(ASKED, "a") as file:
        file.write(host + "\n")
    raise OSError(f"the network is not to be used: {host}")
def first(function, position):
    def guarded(*args, **more):
        note(args[position])
        return function(*args, **more)
    return guarded
socket.socket.connect = first(socket.socket.connect, 1)
socket.socket.connect_ex = first(socket.socket.connect_ex, 1)
socket.getaddrinfo = first(socket.getaddrinfo, 0)
"""


def guarded(folder: Path) -> dict[str, str]:
    """Environment of a process under guard; the file `asked` of the folder says whom it asked."""
    folder.mkdir(exist_ok=True)
    (folder / "asked").touch()
    (folder / "sitecustomize.py").write_text(f"ASKED = {str(folder / 'asked')!r}\n{GUARD}")
    return {"PYTHONPATH": str(folder)}
