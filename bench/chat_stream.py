"""One streamed chat, as the load benchmarks time it."""
import http.client
import json
import time


def timed_chat(port, text, tokens, **fields):
    """(seconds to the first text, or None where there was none, tokens written) of a server on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": True,
                       "stream_options": {"include_usage": True}} | fields)
    began, first, told = time.monotonic(), None, None
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    for line in reply:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if first is None and event["choices"] and event["choices"][0]["delta"].get("content"):
            first = time.monotonic() - began
        told = event.get("usage") or told
    return first, told["completion_tokens"]
