"""One owner thread, first come first served."""

import asyncio
import threading

import pytest

from specbeam.runtime.device_thread import DeviceThread, DeviceThreadStopped


@pytest.fixture
async def device():
    async with DeviceThread("device-test") as thread:
        yield thread


async def test_result_comes_from_the_one_thread(device):
    names = {await device.run(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"device-test"}


async def test_arguments_and_exceptions_pass(device):
    assert await device.run(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await device.run(divmod, 7, 0)
    assert await device.run(divmod, 8, 3) == (2, 2)


async def test_thread_survives_an_exit(device):
    with pytest.raises(SystemExit):
        await device.run(exit_now)
    assert await device.run(int, "5") == 5


def exit_now():
    raise SystemExit(3)


async def test_jobs_run_in_order(device):
    order = []
    await asyncio.gather(*(device.run(order.append, number) for number in range(50)))
    assert order == list(range(50))
    assert device.queue_length == 0


async def test_event_loop_turns_while_a_job_runs(device):
    release = threading.Event()
    job = asyncio.create_task(device.run(release.wait, 10))
    await asyncio.sleep(0.01)
    assert not job.done()
    assert device.queue_length == 1
    release.set()
    assert await job is True


async def test_cancelled_job_is_skipped(device):
    release, ran = threading.Event(), []
    first = asyncio.create_task(device.run(release.wait, 10))
    second = asyncio.create_task(device.run(ran.append, "second"))
    third = asyncio.create_task(device.run(ran.append, "third"))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    release.set()
    await asyncio.gather(first, third)
    assert ran == ["third"]


async def test_cancelled_running_job_does_no_harm(device, until):
    release, started, done = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait(10)
        done.set()

    job = asyncio.create_task(device.run(work))
    await until(started.is_set)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    release.set()
    await until(done.is_set)
    assert await device.run(int, "1") == 1


async def test_times_are_measured(device):
    release = threading.Event()
    first = asyncio.create_task(device.run_timed(release.wait, 10))
    second = asyncio.create_task(device.run_timed(int, "2"))
    await asyncio.sleep(0.05)
    release.set()
    slow, quick = await first, await second
    assert slow.run_ms > 30
    assert quick.value == 2
    assert quick.queue_ms > 30
    assert quick.start_ns >= slow.end_ns


async def test_initializer_runs_first_on_the_thread():
    seen = []

    def initialize():
        seen.append(threading.current_thread().name)

    async with DeviceThread("device-init", initialize) as device:
        assert seen == ["device-init"]
        await device.run(int)


async def test_failing_initializer_fails_the_start():
    device = DeviceThread("device-bad", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await device.start()
    with pytest.raises(DeviceThreadStopped):
        await device.run(int)
    await device.close()


async def test_close_finishes_queued_jobs_and_takes_no_more():
    device = DeviceThread("device-close")
    await device.start()
    release, ran = threading.Event(), []
    jobs = [asyncio.create_task(device.run(release.wait, 10))]
    jobs += [asyncio.create_task(device.run(ran.append, number)) for number in range(3)]
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(device.close())
    await asyncio.sleep(0.01)
    with pytest.raises(DeviceThreadStopped):
        await device.run(int)
    release.set()
    await closing
    await asyncio.gather(*jobs)
    assert ran == [0, 1, 2]
    assert "device-close" not in {thread.name for thread in threading.enumerate()}
    await device.close()


async def test_thread_that_was_not_started_takes_no_work():
    device = DeviceThread("device-idle")
    with pytest.raises(DeviceThreadStopped):
        await device.run(int)
    await device.close()
