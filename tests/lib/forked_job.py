# SPDX-License-Identifier: Apache-2.0
"""Real processes without seconds of imports: forked from a server that has the modules loaded.

`python -m forked_job --serve SOCKET MODULE...` is the server; it ends with its parent.
`python -m forked_job ALLOCATION_DIR` is what a launcher starts: it asks the server for a process that runs the
reference trainer's job in this directory, hands signals on to it, and ends as it ends, by SIGKILL too. The socket's
name is in the file `job-server` of a directory above.

A list of failpoints is taken one at a time, in order: the first is armed until a job has died of it, then the next.
What was fired is written to `fired-<site>` beside `job-server`.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

SERVER_FILE = "job-server"
FAILPOINTS = "FEDERATION_FAILPOINTS"
JOB_MODULE = "site_agent.trainer.job"
JOB_MODULES = (JOB_MODULE, "site_agent.trainer.init", "site_agent.trainer.llama")
_NUMBER = struct.Struct("<q")


def fired_file(base: Path, site: str) -> Path:
    """Names of the failpoints that jobs of a site died of, one a line."""
    return base / f"fired-{site}"


def fired(base: Path, site: str) -> list[str]:
    """What `fired_file` says."""
    path = fired_file(base, site)
    return path.read_text().split() if path.exists() else []


# --- the side that asks -----------------------------------------------------------------------------------------------


def request(server: str, module: str, arguments: list[str], environment: Mapping[str, str]) -> int:
    """Has the server run a module's `main` in a process of its own; its status as of `os.waitpid`."""
    connection, _ = begin(server, module, arguments, environment, (1, 2))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: connection.sendall(bytes([received])))
    return status_from(connection)


def begin(
    server: str, module: str, arguments: list[str], environment: Mapping[str, str], output: tuple[int, int]
) -> tuple[socket.socket, int]:
    """Starts such a process, with these descriptors as its output and error; it is killed when the socket is closed.

    Returns the socket and the process's id.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(server)
    what = {"module": module, "arguments": arguments, "environment": dict(environment), "directory": str(Path.cwd())}
    socket.send_fds(connection, [json.dumps(what).encode()], output)
    return connection, _number_from(connection)


def status_from(connection: socket.socket) -> int:
    """Waits for its end; its status as of `os.waitpid`."""
    return _number_from(connection)


def _number_from(connection: socket.socket) -> int:
    """The next number of the server's; 256, which is no process and the status of a failure, if it is gone."""
    answer = connection.recv(_NUMBER.size, socket.MSG_WAITALL)
    return int(_NUMBER.unpack(answer)[0]) if answer else 1 << 8


def end_like(status: int) -> None:
    """Ends this process as another one ended."""
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.waitstatus_to_exitcode(status))


def run_job(directory: Path) -> None:
    """One job, with the first failpoint that has not been fired yet."""
    base = next(parent for parent in directory.parents if (parent / SERVER_FILE).exists())
    site = json.loads((directory / "order.json").read_text())["site"]
    environment = dict(os.environ)
    left = [item for item in environment.pop(FAILPOINTS, "").split(",") if item]
    done = fired(base, site)
    armed = next((item for item in left if item.partition("=")[0] not in done), "")
    if armed:
        environment[FAILPOINTS] = armed
    status = request((base / SERVER_FILE).read_text(), JOB_MODULE, [str(directory)], environment)
    if armed and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        with fired_file(base, site).open("a") as file:
            file.write(armed.partition("=")[0] + "\n")
    end_like(status)


# --- the server -------------------------------------------------------------------------------------------------------


def serve(path: str, modules: list[str]) -> None:
    """Forks a process for every request, until it or its parent is ended."""
    parent = os.getppid()
    for module in modules:
        import_module(module)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{path}.new")
    listener.listen(16)
    Path(f"{path}.new").rename(path)  # whoever sees it can connect
    listener.settimeout(1.0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _watch(connection)
            os._exit(0)
        connection.close()


def _watch(connection: socket.socket) -> None:
    """Runs one request: hands signals on, ends it if the asker is gone, answers with its status."""
    data, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    if not data:
        return
    child = os.fork()
    if child == 0:
        _become(json.loads(data), descriptors)
    connection.sendall(_NUMBER.pack(child))
    handle = os.pidfd_open(child)
    while handle not in select.select([connection.fileno(), handle], [], [])[0]:
        word = connection.recv(1)
        os.kill(child, word[0] if word else signal.SIGKILL)
        if not word:
            break
    _, status = os.waitpid(child, 0)
    connection.sendall(_NUMBER.pack(status))


def _become(what: dict[str, object], descriptors: list[int]) -> None:
    """The forked process: environment, output and directory of the asker, then the module's `main`."""
    code = 70
    try:
        os.setsid()
        for target, source in enumerate(descriptors, start=1):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(what["environment"])  # type: ignore[call-overload]
        os.chdir(str(what["directory"]))
        code = import_module(str(what["module"])).main(what["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        run_job(Path(sys.argv[1]))
