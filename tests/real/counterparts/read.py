"""Reads requests with the libraries of their formats.

Usage: read.py standardwebhooks|cloudevents|otlp|traces. Each line of stdin is a request as JSON, with lower-case names of headers and its body in
base64; for each a line of JSON says what the library read, or `{"error": …}`. Exits with 77 where the library is not installed.
"""

import base64
import json
import sys

KIND = sys.argv[1]

try:
    if KIND == "standardwebhooks":
        from standardwebhooks import Webhook
    elif KIND == "cloudevents":
        from cloudevents.core.bindings.http import HTTPMessage, from_http_event
    else:
        from google.protobuf.json_format import MessageToDict, Parse
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
except ImportError as why:
    print(why)
    sys.exit(77)


def webhook(headers, body, secret):
    return Webhook(secret).verify(body, headers)


def event(headers, body):
    read = from_http_event(HTTPMessage(headers, body))
    data = read.get_data()
    return {
        "id": read.get_id(),
        "type": read.get_type(),
        "source": read.get_source(),
        "subject": read.get_subject(),
        "time": read.get_time().timestamp(),
        "data": data.decode() if isinstance(data, bytes) else data,
    }


def events(headers, body):
    if "cloudevents-batch" not in headers["content-type"]:
        return [event(headers, body)]
    # The library has no batches; the specification makes them an array of structured events.
    one = {"content-type": "application/cloudevents+json"}
    return [event(one, json.dumps(item).encode()) for item in json.loads(body)]


def logs(body):
    return MessageToDict(Parse(body, ExportLogsServiceRequest()))


def traces(body):
    read = ExportTraceServiceRequest()
    read.ParseFromString(body)
    # Whatever was written that the messages do not know is lost by this.
    read.DiscardUnknownFields()
    known = read.SerializeToString()
    return {"known": len(known) == len(body), **MessageToDict(read)}


for line in sys.stdin:
    request = json.loads(line)
    headers, body = request["headers"], base64.b64decode(request["body"])
    try:
        if KIND == "standardwebhooks":
            read = webhook(headers, body, request["secret"])
        elif KIND == "cloudevents":
            read = events(headers, body)
        elif KIND == "traces":
            read = traces(body)
        else:
            read = logs(body)
    except Exception as why:
        read = {"error": repr(why)}
    print(json.dumps(read))
