"""Verifies requests with libraries that others wrote.

Usage: verify.py standardwebhooks|svix|botocore. Each line of stdin is a request as JSON; for each a line says `ok`, or why not. Exits with 77
where the library is not installed.
"""

import base64
import json
import sys

KIND = sys.argv[1]

try:
    if KIND == "standardwebhooks":
        from standardwebhooks import Webhook
    elif KIND == "svix":
        from svix.webhooks import Webhook
    else:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
except ImportError as why:
    print(why)
    sys.exit(77)


def webhook(request):
    Webhook(request["secret"]).verify(base64.b64decode(request["body"]), request["headers"])


def aws(request):
    """Computes the signature anew, from what arrived and the secret that both ends know."""
    headers = request["headers"]
    credential, signed, signature = headers["authorization"].split(" ", 1)[1].split(", ")
    key_id, _, region, service, _ = credential.removeprefix("Credential=").split("/")
    names = signed.removeprefix("SignedHeaders=").split(";")
    received = AWSRequest(
        method=request["method"],
        url="http://" + headers["host"] + request["path"],
        data=base64.b64decode(request["body"]),
        headers={name: headers[name] for name in names},
    )
    received.context["timestamp"] = headers["x-amz-date"]
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    signer = kind(Credentials(key_id, request["secret"]), service, region)
    expected = signer.signature(signer.string_to_sign(received, signer.canonical_request(received)), received)
    if signature != "Signature=" + expected:
        raise ValueError("another signature: " + signer.canonical_request(received))


for line in sys.stdin:
    request = json.loads(line)
    try:
        (aws if KIND == "botocore" else webhook)(request)
        print("ok")
    except Exception as why:
        print(json.dumps(repr(why)))
