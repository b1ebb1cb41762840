"""What a process does outside some folders, seen by Python's own audit events."""

# sys.argv[1]: the folders in which it may write; what else it writes, connects to, starts, or
# imports by the name `hostile` is in `seen` once `sys.addaudithook(hook)` was called
HOOK = """
import os, sys
allowed, seen = [os.path.realpath(p) for p in sys.argv[1].split(os.pathsep)], []

def hook(event, args):
    if event.startswith(("socket.connect", "socket.getaddr", "subprocess", "os.system", "os.exec")):
        seen.append(f"{event} {args}")
    if event == "import" and "hostile" in str(args[0]):
        seen.append(f"import {args[0]}")
    if event == "open" and isinstance(args[0], str) and args[1] and set("wax+") & set(args[1]):
        path = os.path.realpath(args[0])
        if not any(path.startswith(folder) for folder in allowed) and path != os.devnull:
            seen.append(f"write {path}")
"""
