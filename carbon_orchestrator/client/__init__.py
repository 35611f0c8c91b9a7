"""The Python client: two faces, for asyncio and for everybody else, of one core.

`jobs.py` says what a job looks like and `submission.py` what is sent for one, both pure;
`transport.py` gets one request answered, `gateway.py` has all there is to ask, and
`blocking.py` asks it from ordinary code. Everything of interest is in `carbon_orchestrator`.
"""
