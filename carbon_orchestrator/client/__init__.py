"""The Python client: two faces, for asyncio and for everybody else, of one core.

`jobs.py` and `grid.py` say what an answer looks like, `submission.py` and `bulk.py` what is sent
for a job or many, `server_sent.py` what a live answer says, all pure. `transport.py` gets one
request answered. `submitting.py`, `asking.py` and `live.py` are what there is to ask, `gateway.py`
is all of it with the life of a job, and `blocking.py` asks it from ordinary code. Everything of
interest is in `carbon_orchestrator`.
"""
