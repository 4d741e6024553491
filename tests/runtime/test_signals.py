"""A signal is an exception where the program is, however much swallows exceptions there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sgid.runtime.signals import AGAIN, GRACE, SIGNALS, Stopped, find_stop, stop_on_signals


def wait(seconds: float) -> None:
    """In small steps, as `time.sleep` is woken by no other thread's exception."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def defaults():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, was in before.items():
        signal.signal(number, was)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_an_exception_that_knows_its_name(number, code):
    with pytest.raises(Stopped) as caught, stop_on_signals():
        os.kill(os.getpid(), number)
        wait(10)
    assert (caught.value.signal, caught.value.code) == (number, code)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_swallows_it_does_not_keep_it():
    class Last:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            wait(0.05)

    said = []
    hook, sys.unraisablehook = sys.unraisablehook, said.append
    try:
        with pytest.raises(Stopped), stop_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                wait(10)
            except:  # noqa: E722  # as libraries have it around an import that may fail
                pass
            wait(10)
        with pytest.raises(Stopped), stop_on_signals():
            Last()
            wait(10)
    finally:
        sys.unraisablehook = hook
    assert not said


def test_it_is_raised_once_though_it_takes_long_to_leave():
    reached = False
    with pytest.raises(Stopped), stop_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            wait(10)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # the same request, by another way
            wait(3 * AGAIN)
            reached = True
    assert reached
    wait(3 * AGAIN)  # nor after it has arrived


def test_a_second_one_ends_a_process_that_hangs():
    code = (
        "import time\n"
        "from sgid.runtime.signals import stop_on_signals\n"
        "with stop_on_signals():\n"
        "    try:\n"
        "        print('on', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('off', flush=True)\n"
        "        time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "off\n"
    wait(GRACE + 0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()


def test_what_is_ignored_or_has_a_handler_stays_so():
    heard = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        wait(0.05)
    assert heard == [1]


def test_another_thread_is_left_alone():
    entered = []

    def run() -> None:
        with stop_on_signals():
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert entered == [signal.SIG_DFL]


def test_a_stop_is_found_behind_what_a_library_made_of_it():
    try:
        try:
            raise Stopped(signal.SIGTERM)
        except BaseException:
            raise SystemExit(1) from None
    except SystemExit as error:
        found = find_stop(error)
    assert found is not None and found.signal is signal.SIGTERM
    assert find_stop(ValueError()) is None
