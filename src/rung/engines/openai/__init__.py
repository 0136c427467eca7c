"""Any server that speaks the OpenAI HTTP API: Ollama, LM Studio, vLLM, llama-server, a cloud.

`engine` is the protocol class; `calls` makes a call with all that surrounds it: `transport` sends,
`limits` times, `retry` decides when to send again, `faults` turns what goes wrong into errors for
people. `wire` is what crosses the network, `sse` splits streams, `answer` assembles them, `dialect`
finds out what the server really does, `labels` reads label probabilities.
"""
