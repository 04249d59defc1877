"""What a replica process runs: `python -m eagleray._replica`, started by the node and by nobody else.

`main` connects and owns the event loop, `lifecycle` follows the controller's commands, `user_code` knows what was
deployed. A request comes from the native module; `http` and `calls` run user code for it, on the loop or on a thread
of the pool, and `answer` turns what it returns into bytes.
"""
