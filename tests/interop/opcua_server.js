// An OPC UA server that nobody of this project wrote: node-opcua. It is steered by lines of JSON on its standard
// input, and answers each with one line. It ends when its standard input does.
"use strict";

console.log = console.info = console.warn = console.error; // the library speaks; standard output is for answers
globalThis.crypto ??= require("node:crypto").webcrypto; // Node.js 18, which Debian 12 has, calls it so

const path = require("node:path");
const readline = require("node:readline");
const {
    MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, nodesets,
} = require("node-opcua");
const { Nodes } = require("./opcua_nodes.js");

const options = JSON.parse(process.argv[2]);
const counters = new Map();
const asked = {}; // how many requests of each kind
let server;
let nodes;

// Counts up for ever, or until it is stopped, which gives the last number.
function count({ name, every_ms }) {
    let number = 0;
    const timer = setInterval(() => nodes.set({ name, value: ++number }), every_ms);
    counters.set(name, { current: () => number, end: () => clearInterval(timer) });
}

function stop({ name }) {
    const counter = counters.get(name);
    counter.end();
    return counter.current();
}

function subscriptions() {
    const engines = Object.values(server.engine._sessions).map((session) => session.publishEngine);
    const orphans = server.engine._orphanPublishEngine;
    return [...engines, ...(orphans ? [orphans] : [])].flatMap((engine) => engine.subscriptions);
}

const COMMANDS = {
    add: ({ variables }) => variables.forEach((each) => nodes.add(each)),
    folder: (given) => nodes.folder(given),
    run: (given) => nodes.run(given),
    remove: ({ name }) => nodes.remove(name),
    set: ({ values }) => values.forEach((each) => nodes.set(each)),
    count,
    stop,
    current: ({ name }) => counters.get(name).current(),
    held: () => subscriptions().map((each) => ({
        id: each.id,
        items: each.monitoredItemCount,
        unacknowledged: each.getAvailableSequenceNumbers(),
        transferred: each.subscriptionDiagnostics.transferRequestCount,
        republished: each.subscriptionDiagnostics.republishMessageCount,
    })),
    // Ends what the clients have, without a word to them.
    end_subscriptions: () => subscriptions().forEach((each) => each.terminate()),
    end_sessions: () => Object.values(server.engine._sessions).forEach((session) => {
        server.engine.closeSession(session.authenticationToken, false, "Terminated");
    }),
    limit: ({ limits }) => Object.assign(server.engine.serverCapabilities.operationLimits, limits),
    asked: () => asked,
    sessions: () => server.engine.currentSessionCount,
};

async function certificates(folder) {
    const manager = new OPCUACertificateManager({
        automaticallyAcceptUnknownCertificate: true,
        rootFolder: path.join(options.folder, folder),
    });
    await manager.initialize();
    return manager;
}

async function main() {
    server = new OPCUAServer({
        host: "127.0.0.1",
        hostname: "127.0.0.1",
        port: options.port,
        serverCertificateManager: await certificates("server"),
        userCertificateManager: await certificates("users"),
        serverInfo: { applicationUri: "urn:interop:node-opcua" },
        securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
        securityPolicies: [
            SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep,
            SecurityPolicy.Aes256_Sha256_RsaPss,
        ],
        userManager: { isValidUser: (user, password) => user === "gateway" && password === "secret" },
        nodeset_filename: [nodesets.standard, path.join(__dirname, "opcua_types.xml")],
        // Only who advertises 0 reports each change, and not one of several within 50 ms.
        serverCapabilities: { minSupportedSampleRate: 0, operationLimits: options.limits || {} },
        maxConnectionsPerEndpoint: 50,
    });
    await server.initialize();
    nodes = new Nodes(server.engine.addressSpace);
    server.on("request", ({ constructor: { name } }) => {
        asked[name] = (asked[name] || 0) + 1;
    });
    await server.start();
    answer({ certificate: server.getCertificate().toString("base64") });
    const orders = readline.createInterface({ input: process.stdin });
    orders.on("line", obey);
    orders.on("close", () => process.exit(0));
}

function obey(line) {
    const { do: name, ...order } = JSON.parse(line);
    try {
        answer({ done: COMMANDS[name](order) ?? null });
    } catch (error) {
        answer({ failed: `${name}: ${error.stack}` });
    }
}

function answer(document) {
    process.stdout.write(`${JSON.stringify(document)}\n`);
}

main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
});
