"""What a replica process runs: `eagleray._replica.main`, started by the node through `eagleray._bootstrap`.

`main` connects and owns the event loop, `lifecycle` follows the controller's commands, `user_code` knows what was
deployed. A request comes from the native module; `http` and `calls` run user code for it, on the loop or on a thread
of the pool, and `answer` turns what it returns into bytes.
"""
