"""A replica process: `eagleray._replica.main`, started by the node through `eagleray._bootstrap`.

`main` connects and owns the event loop, and `lifecycle` follows the controller's commands. Requests come from the
native module; `eagleray._user_code` runs user code for them.
"""
