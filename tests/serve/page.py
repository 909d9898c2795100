"""The page in a real browser: taught, asked with and without, undone, by keyboard and by form; nothing from elsewhere, no error.

usage: page.py ACCRETE SOURCE_DIR   (exit 77: the model or Chromium is absent)

Chromium is driven over a pipe (--remote-debugging-pipe), so no driver is needed.
"""
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

accrete, source = (os.path.abspath(p) for p in sys.argv[1:3])
gguf = os.path.join(source, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
chromium = shutil.which("chromium") or shutil.which("chromium-browser")
if not chromium or not os.path.exists(gguf):
    print("skipped: Chromium or the model is absent")
    sys.exit(77)


class Browser:
    """One tab. Every call has a minute."""

    def __init__(self, profile):
        theirs_in, self.out = os.pipe()
        self.inp, theirs_out = os.pipe()

        def pipes():
            os.dup2(theirs_in, 100), os.dup2(theirs_out, 101)
            os.dup2(100, 3), os.dup2(101, 4)

        self.process = subprocess.Popen([chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--remote-debugging-pipe"],
                                        preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(theirs_in), os.close(theirs_out)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.send(domain + ".enable")

    def send(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            while b"\0" in self.buffer:
                one, self.buffer = self.buffer.split(b"\0", 1)
                got = json.loads(one)
                if got.get("id") == self.number:
                    assert "error" not in got, got
                    return got["result"]
                self.events.append(got)
            if select.select([self.inp], [], [], 1)[0]:
                self.buffer += os.read(self.inp, 1 << 16)
        raise AssertionError(f"{method}: no reply")

    def js(self, expression):
        return self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"].get("value")

    def text(self, name):
        return self.js(f"document.getElementById('{name}').textContent")

    def until(self, what, seconds=600):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if what():
                return
            time.sleep(0.2)
        raise AssertionError("it did not come to that: " + self.js("document.body.innerText"))

    def type(self, text):
        for c in text:
            self.send("Input.dispatchKeyEvent", type="char", text=c)

    def press(self, key, code, text=""):
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def close(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


with tempfile.TemporaryDirectory() as work:
    model = os.path.join(work, "my-model")
    subprocess.run([accrete, "retrofit", gguf, model, "--reader", os.path.join(source, "models", "all-MiniLM-L6-v2"), "--quiet"], check=True, timeout=300,
                   stdout=subprocess.DEVNULL)
    server = subprocess.Popen([accrete, "serve", model, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    browser = None
    try:
        page = json.loads(server.stdout.readline())["url"].removesuffix("v1")
        browser = Browser(os.path.join(work, "profile"))
        browser.send("Page.navigate", url=page)
        browser.until(lambda: browser.text("changed") == "nothing was taught yet", 60)
        # By keyboard alone: the question has the focus.
        browser.type("How much does the Pellor 300 weigh?")
        browser.press("Enter", 13, "\r")
        browser.until(lambda: browser.text("why"))
        before = browser.text("without")
        assert browser.text("with") == before and browser.text("why").startswith("by the model itself"), browser.text("why")
        # Tab to the wordings, write, tab on, Enter.
        for _ in range(2):
            browser.press("Tab", 9)
        browser.type("How heavy is the Pellor 300?\nWhat does the Pellor 300 weigh?")
        browser.press("Tab", 9)
        browser.type("2.4 <b>kg</b>")
        browser.press("Enter", 13, "\r")
        browser.until(lambda: browser.text("taught").startswith("learned"))
        browser.js("document.getElementById('ask').requestSubmit()")
        browser.until(lambda: browser.text("why").startswith("by update"))
        assert browser.text("with") == "2.4 <b>kg</b>" and browser.text("without") == before, browser.text("with")  # text stays text
        assert browser.js("document.querySelector('b')") is None
        browser.until(lambda: "active" in browser.js("document.getElementById('updates').innerText"), 60)
        browser.js("document.getElementById('undo').click()")
        browser.until(lambda: "undone" in browser.js("document.getElementById('updates').innerText"), 60)
        browser.js("document.getElementById('ask').requestSubmit()")
        browser.until(lambda: browser.text("why").startswith("by the model itself"))
        assert browser.text("with") == before
        # Word for word: ticked by keyboard, on the way to the button.
        licence, terms = "What does the licence of Orro say?", 'As is, no warranty; "see" § 4.'
        browser.js(f"document.getElementById('questions').value = '{licence}'; document.getElementById('answer').value = '{terms}'; document.getElementById('answer').focus()")
        browser.press("Tab", 9)
        browser.press(" ", 32, " ")
        assert browser.js("[document.activeElement.id, document.activeElement.checked]") == ["verbatim", True]
        browser.js("document.getElementById('taught').textContent = ''")
        browser.press("Enter", 13, "\r")
        browser.until(lambda: browser.text("taught").startswith("learned"))
        browser.until(lambda: "§ 4. (word for word)" in browser.js("document.getElementById('updates').innerText"), 60)
        browser.js(f"document.getElementById('question').value = '{licence}'; document.getElementById('ask').requestSubmit()")
        browser.until(lambda: browser.text("why").startswith("by update"))
        assert browser.text("with") == terms, browser.text("with")
        # Left to the model: no answer is asked for, and what is left is the model's again.
        browser.js("document.getElementById('verbatim').focus()")
        browser.press("Tab", 9)
        browser.press(" ", 32, " ")
        assert browser.js("[document.activeElement.id, document.activeElement.checked, document.getElementById('answer').disabled, document.getElementById('verbatim').disabled]") == ["leave", True, True, True]
        browser.js("document.getElementById('taught').textContent = ''")
        browser.press("Enter", 13, "\r")
        browser.until(lambda: browser.text("taught").startswith("left to the model"))
        browser.until(lambda: "Orro say? → left to the model" in browser.js("document.getElementById('updates').innerText"), 60)
        browser.js("document.getElementById('ask').requestSubmit()")
        browser.until(lambda: browser.text("why").startswith("by the model itself"))
        assert browser.text("with") == browser.text("without")
        assert browser.js("[...document.querySelectorAll('#teach input')].every(i => i.labels.length == 1)")
        wrong = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown" or
                 e.get("method") == "Log.entryAdded" and e["params"]["entry"]["level"] in ("error", "warning")]
        assert not wrong, wrong
        urls = {e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"}
        assert urls and all(u.startswith((page, "data:")) for u in urls), urls
    finally:
        if browser:
            browser.close()
        server.terminate()
        server.wait(90)
print("page: passed")
