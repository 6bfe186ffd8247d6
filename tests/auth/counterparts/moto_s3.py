"""A server of S3 that checks signatures: moto. Says on which port it listens and which keys it knows, and ends with its stdin.

Then it says what is in its bucket. Exits with 77 where moto is not installed.
"""

import json
import logging
import sys
import urllib.request

try:
    import boto3
    from moto.server import ThreadedMotoServer
except ImportError as why:
    print(why)
    sys.exit(77)

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"


def client(service, key_id="setup", secret="setup"):
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id=key_id, aws_secret_access_key=secret
    )


iam = client("iam")
iam.create_user(UserName="sink")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="sink", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="sink")["AccessKey"]
client("s3").create_bucket(Bucket="bucket")
# From now on signatures are checked.
as_text = {"content-type": "text/plain"}
urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", as_text, method="POST"))
print(json.dumps({"port": port, "key_id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}), flush=True)
sys.stdin.read()
s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
objects = s3.list_objects_v2(Bucket="bucket").get("Contents", [])
bodies = {o["Key"]: s3.get_object(Bucket="bucket", Key=o["Key"])["Body"].read().decode() for o in objects}
print(json.dumps(bodies), flush=True)
