# Calls the gateway with clients of other projects, unchanged. URL, TOKEN and CA come from the test.
import asyncio, json, os, ssl, urllib.request
import jsonrpcclient
from jsonrpc_websocket import Server

url, token = os.environ["URL"], os.environ["TOKEN"]
tls = ssl.create_default_context(cafile=os.environ["CA"])


def post(body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": "Bearer " + token})
    with urllib.request.urlopen(request, context=tls) as answer:
        return jsonrpcclient.parse(json.load(answer))


assert isinstance(post(jsonrpcclient.request("version")), jsonrpcclient.Ok)
assert post(jsonrpcclient.request("none")).code == -32601
assert len(list(post([jsonrpcclient.request("version"), jsonrpcclient.request("self.history", params=[1])]))) == 2


async def socket():
    server = Server(url.replace("https:", "wss:"), ssl=tls)
    await server.ws_connect()
    try:
        await server.authenticate(token=token)
        load = await server.system_load.current()
        assert load["processors"] >= 1, load
    finally:
        await server.close()


asyncio.run(socket())
print("passed: python")
