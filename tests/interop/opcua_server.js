// An OPC UA server that nobody of this project wrote: node-opcua. It is steered by lines of JSON on its standard
// input, and answers each with one line. It ends when its standard input does.
"use strict";

console.log = console.info = console.warn = console.error; // the library speaks; standard output is for answers
globalThis.crypto ??= require("node:crypto").webcrypto; // Node.js 18, which Debian 12 has, calls it so

const path = require("node:path");
const readline = require("node:readline");
const {
    DataType, MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, StatusCodes, Variant,
    VariantArrayType, coerceInt64, coerceNodeId, coerceUInt64,
} = require("node-opcua");

const NAMESPACE = "urn:interop:plc";
const options = JSON.parse(process.argv[2]);
const variables = new Map();
const counters = new Map();
let server;
let namespace;

// 64-bit integers come as texts, which lose no digits; dates as milliseconds; bytes in base64.
const COERCE = {
    Int64: coerceInt64,
    UInt64: coerceUInt64,
    DateTime: (value) => new Date(value),
    ByteString: (value) => Buffer.from(value, "base64"),
    NodeId: (value) => coerceNodeId(value),
    ExpandedNodeId: (value) => coerceNodeId(value),
    StatusCode: (value) => StatusCodes[value],
    LocalizedText: (value) => ({ text: value }),
};

function variantOf({ type, value, shape }) {
    const coerce = COERCE[type] || ((plain) => plain);
    const dataType = DataType[type];
    if (!Array.isArray(value)) {
        return new Variant({ dataType, arrayType: VariantArrayType.Scalar, value: coerce(value) });
    }
    const arrayType = shape ? VariantArrayType.Matrix : VariantArrayType.Array;
    return new Variant({ dataType, arrayType, dimensions: shape, value: value.map((each) => coerce(each)) });
}

function add({ name, type, value, shape }) {
    const variable = namespace.addVariable({
        organizedBy: server.engine.addressSpace.rootFolder.objects,
        browseName: name,
        nodeId: `s=${name}`,
        dataType: type,
        minimumSamplingInterval: 0, // each change is reported to whoever asks for that
        valueRank: shape ? shape.length : Array.isArray(value) ? 1 : -1,
        arrayDimensions: shape || (Array.isArray(value) ? [value.length] : undefined),
    });
    variable.setValueFromSource(variantOf({ type, value, shape }), StatusCodes.Good, new Date());
    variables.set(name, { variable, type });
}

function set({ name, value, status }) {
    const { variable, type } = variables.get(name);
    variable.setValueFromSource(variantOf({ type, value }), StatusCodes[status || "Good"], new Date());
}

// Counts up for ever, or until it is stopped, which gives the last number.
function count({ name, every_ms }) {
    let number = 0;
    const timer = setInterval(() => set({ name, value: ++number }), every_ms);
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
    add: ({ variables: given }) => given.forEach(add),
    set: ({ values }) => values.forEach(set),
    count,
    stop,
    current: ({ name }) => counters.get(name).current(),
    held: () => subscriptions().map((each) => ({
        id: each.id,
        items: each.monitoredItemCount,
        unacknowledged: each.getAvailableSequenceNumbers(),
    })),
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
        // Only who advertises 0 reports each change, and not one of several within 50 ms.
        serverCapabilities: { minSupportedSampleRate: 0, operationLimits: options.limits || {} },
        maxConnectionsPerEndpoint: 50,
    });
    await server.initialize();
    namespace = server.engine.addressSpace.registerNamespace(NAMESPACE);
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
