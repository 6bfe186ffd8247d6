// A token endpoint, oidc-provider, whose tokens live two seconds, and an endpoint that asks it whether a token lives. Says on which
// port both listen, and ends with its stdin. Then it says how many tokens it gave and how often it refused one. Exits with 77 where
// oidc-provider is not installed where NODE_PATH says.

const http = require("node:http");
const { pathToFileURL } = require("node:url");

const CLIENT = { client_id: "sink", client_secret: "a secret: with + and %", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] };

async function main() {
  let file;
  try {
    file = require.resolve("oidc-provider");
  } catch (why) {
    console.log(String(why.message).split("\n")[0]);
    process.exit(77);
  }
  console.info = console.warn = () => {};
  const { default: Provider } = await import(pathToFileURL(file));
  const server = http.createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [CLIENT],
    features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
    ttl: { ClientCredentials: 2 },
    scopes: ["ingest"],
  });
  let given = 0;
  let refused = 0;
  let taken = 0;
  provider.on("grant.success", () => (given += 1));
  const callback = provider.callback();
  server.on("request", async (request, answer) => {
    if (request.url !== "/in") return callback(request, answer);
    request.resume();
    const token = (request.headers.authorization ?? "").replace("Bearer ", "");
    const found = await provider.ClientCredentials.find(token);
    if (found?.isValid) taken += 1;
    else refused += 1;
    answer.writeHead(found?.isValid ? 200 : 401).end();
  });
  console.log(JSON.stringify({ port, client_id: CLIENT.client_id, client_secret: CLIENT.client_secret }));
  process.stdin.resume().on("end", () => {
    console.log(JSON.stringify({ given, refused, taken }));
    process.exit(0);
  });
}

main();
