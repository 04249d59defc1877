"""Stands in for `curl` on a machine that has none: the options that the pages use, and no others."""

import argparse
import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
parser.add_argument("url")
parser.add_argument("-X", dest="method")
parser.add_argument("-H", dest="headers", action="append", default=[])
parser.add_argument("-d", dest="data")
parser.add_argument("-i", dest="head", action="store_true")
parser.add_argument("-o", dest="output")
parser.add_argument("-w", dest="words", default="")
for silent in ("-s", "-N"):
    parser.add_argument(silent, action="store_true")
given = parser.parse_args()

address = urlsplit(given.url)
headers = dict(line.split(": ", 1) for line in given.headers)
if given.data is not None:
    headers = {"content-type": "application/x-www-form-urlencoded"} | headers
connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
try:
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    connection.request(given.method or ("GET" if given.data is None else "POST"), target, given.data, headers)
    answer = connection.getresponse()
    head = f"HTTP/1.1 {answer.status} {answer.reason}\n"
    head += "".join(f"{name.lower()}: {value}\n" for name, value in answer.getheaders())
    if given.head:
        print(head)
    body = answer.read()
except (OSError, HTTPException) as error:
    sys.exit(f"curl: (7) {error}")
if given.output != "/dev/null":
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
sys.stdout.write(given.words.replace("%{http_code}", str(answer.status)).replace("\\n", "\n"))
