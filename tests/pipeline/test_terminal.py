import subprocess
import sys


def test_words_that_nobody_can_read_any_more_are_lost_without_harm() -> None:
    code = (
        "import sys; from pipeline.terminal import Terminal; t = Terminal(); t.say('first'); sys.stdin.read();"
        "t.say('lost'); t.warn('lost', 'lost'); t.status(lambda: 'lost'); t.end_drawing(); print('alive')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"first\n"
    process.stderr.close()
    process.stderr = None
    out, _ = process.communicate(b"", timeout=20)
    assert (process.returncode, out) == (0, b"alive\n")
