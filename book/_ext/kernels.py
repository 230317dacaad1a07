"""Kernels that start at once: forks of one process that has imported what every chapter imports.

Importing torch, pandas, matplotlib and the rest takes seconds of a processor, and a book of eleven chapters would pay
them eleven times. On Linux one process (`main` below) does it once; a chapter's kernel is a fork of it, as fresh as any
other. Elsewhere a fork of such a process is not safe, and kernels start in the ordinary way.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time

COMMON = ("helpers", "torch._dynamo", "matplotlib.pyplot", "ipykernel.kernelapp")  # optimizers import torch._dynamo


def main() -> None:
    """Import, tell the seconds that it cost, then fork a kernel for every line of stdin and print its pid."""
    del sys.path[0]  # the folder of this file: a kernel does not have it either
    for name in COMMON:
        with contextlib.suppress(Exception):  # a chapter that needs it will say so, and where
            importlib.import_module(name)
    print(json.dumps(time.process_time()), flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kernels that have ended leave nothing behind
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            serve(**json.loads(line))
        print(json.dumps(pid), flush=True)


def serve(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be a kernel until it is told to end."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.argv[1:] = arguments
    try:
        # it ends when the process that it is a fork of has ended
        IPKernelApp.launch_instance(argv=arguments, parent_handle=os.getppid())
    finally:
        os._exit(0)


class Fork:
    """A kernel as `jupyter_client` handles one: the part of `subprocess.Popen` that it calls."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    wait = poll  # it is called when `poll` has told the end

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """The process with the imports. `seconds` is what they cost: what each of its kernels would have paid."""

    def __init__(self, environment: dict[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self.seconds = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("The process that starts the kernels has ended; what it said is above.")
        return json.loads(line)

    def fork(self, arguments: list[str], cwd: str, env: dict[str, str]) -> Fork:
        self.process.stdin.write(json.dumps({"arguments": arguments, "cwd": cwd, "env": env}) + "\n")
        self.process.stdin.flush()
        return Fork(self._answer())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def manager(nursery: Nursery) -> type:
    """The class of kernel managers whose kernels come from there."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd, **kwargs):
            self.process = nursery.fork(cmd[cmd.index("-f") :], str(kwargs["cwd"]), dict(kwargs["env"]))
            self.pid = self.pgid = self.process.pid
            self.cwd = kwargs["cwd"]
            return self.connection_info

    class Manager(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **kw):
            if self.provisioner is None:
                self.kernel_id = self.kernel_id or kw.get("kernel_id", "")
                self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            return await super()._async_pre_start_kernel(**kw)

    return Manager


@contextlib.contextmanager
def nursery(environment: dict[str, str]):
    """A `Nursery` for the length of a block; None where there is none."""
    if sys.platform != "linux":
        yield None
        return
    here = Nursery(environment)
    try:
        yield here
    finally:
        here.close()


if __name__ == "__main__":
    main()
