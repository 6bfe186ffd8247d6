"""The HTTP door of a ClickHouse engine, as far as inserts and queries need it.

Usage: clickhouse.py PORT FOLDER [loses]. The engine is chdb, in this process. As at the door of the server, `query` in the URL and the body make the
statement, and every other parameter is a setting of it; a statement that fails is answered with the engine's words. With `loses` each
fifth insert is carried out, and its answer is lost. Exits with 77 where chdb is not installed.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

try:
    from chdb.session import Session
except ImportError:
    sys.exit(77)

LOSES = "loses" in sys.argv[3:]
engine = Session(sys.argv[2])
one_at_a_time = threading.Lock()
inserts = 0


def statement(parameters, body):
    """The engine's form of it: settings stand in the statement, and in an insert before what is inserted."""
    query = parameters.pop("query", "")
    # A parameter of the door, which always waits here.
    parameters.pop("wait_end_of_query", None)
    settings = ", ".join("%s = '%s'" % (name, value.replace("'", "\\'")) for name, value in parameters.items())
    if query.lstrip().upper().startswith("INSERT") and settings:
        into, form = query.rsplit(" FORMAT ", 1)
        query = f"{into} SETTINGS {settings} FORMAT {form}"
    return query + (("\n" + body) if query and body else body)


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global inserts
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        parameters = dict(parse_qsl(urlsplit(self.path).query))
        text = statement(parameters, body)
        with one_at_a_time:
            try:
                answer, status = engine.query(text).bytes(), 200
            except RuntimeError as why:
                answer, status = str(why).encode(), 400
            is_insert = text.lstrip().upper().startswith("INSERT")
            inserts += is_insert
            lost = is_insert and LOSES and inserts % 5 == 0
        if lost:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Door).serve_forever()
