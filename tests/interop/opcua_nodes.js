// The variables of the server: made, changed and removed.
"use strict";

const {
    DataType, StatusCodes, Variant, VariantArrayType, coerceInt64, coerceNodeId, coerceUInt64,
} = require("node-opcua");

const NAMESPACE = "urn:interop:plc";
const TYPES = "urn:interop:types";

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

class Nodes {
    constructor(addressSpace) {
        this.addressSpace = addressSpace;
        this.namespace = addressSpace.registerNamespace(NAMESPACE);
        this.types = addressSpace.getNamespaceIndex(TYPES);
        this.known = new Map();
    }

    // `of` names a type of opcua_types.xml; `analog`, `states` and `numbers` make what OPC 10000-8 describes.
    add(given) {
        const { name, type, value, shape, of, history } = given;
        const common = {
            organizedBy: this.known.get(given.folder)?.variable ?? this.addressSpace.rootFolder.objects,
            browseName: name,
            nodeId: `s=${name}`,
            description: given.description,
            minimumSamplingInterval: 0, // each change is reported to whoever asks for that
        };
        const variable = this.make(given, {
            ...common,
            dataType: of ? this.dataType(of) : type,
            valueRank: shape ? shape.length : Array.isArray(value) ? 1 : -1,
            arrayDimensions: shape || (Array.isArray(value) ? [value.length] : undefined),
        });
        if (history) {
            this.addressSpace.installHistoricalDataNode(variable, { maxOnlineValues: history });
        }
        this.known.set(name, { variable, type, of });
        this.set({ name, value, shape, ts: given.ts });
    }

    make({ analog, states, numbers }, options) {
        if (analog) {
            return this.namespace.addAnalogDataItem({
                ...options,
                engineeringUnitsRange: { low: analog.low, high: analog.high },
                engineeringUnits: { unitId: 1, displayName: { text: analog.unit }, namespaceUri: "urn:interop:units" },
            });
        }
        if (states) {
            return this.namespace.addMultiStateDiscrete({ ...options, enumStrings: states, value: 0 });
        }
        if (numbers) {
            const enumValues = Object.entries(numbers).map(([value, text]) => ({ displayName: text, value: +value }));
            return this.namespace.addMultiStateValueDiscrete({ ...options, enumValues, value: enumValues[0].value });
        }
        return this.namespace.addVariable(options);
    }

    dataType(name) {
        return this.addressSpace.findDataType(name, this.types);
    }

    // Dates its value by `ts` (ms) if that is given.
    set({ name, value, shape, status, ts }) {
        const known = this.known.get(name);
        const { variable, type, of } = known;
        known.ts = ts ?? Date.now();
        const stamp = new Date(known.ts);
        variable.setValueFromSource(this.variant({ type, value, shape, of }), StatusCodes[status || "Good"], stamp);
    }

    // All numbers from begin to end, each dated one millisecond after the one before.
    run({ name, begin, end }) {
        const known = this.known.get(name);
        for (let value = begin; value <= end; value++) {
            this.set({ name, value, ts: known.ts + 1 });
        }
    }

    variant({ type, value, shape, of }) {
        const structure = (fields) => this.addressSpace.constructExtensionObject(this.dataType(of), fields);
        const coerce = type === "ExtensionObject" ? structure : COERCE[type] || ((plain) => plain);
        const dataType = DataType[type];
        if (!Array.isArray(value)) {
            return new Variant({ dataType, arrayType: VariantArrayType.Scalar, value: coerce(value) });
        }
        const arrayType = shape ? VariantArrayType.Matrix : VariantArrayType.Array;
        return new Variant({ dataType, arrayType, dimensions: shape, value: value.map((each) => coerce(each)) });
    }

    // A folder of many variables; with `back`, one of its children leads to the folder again.
    folder({ name, children, back }) {
        const folder = this.namespace.addFolder(this.addressSpace.rootFolder.objects, {
            browseName: name, nodeId: `s=${name}`,
        });
        this.known.set(name, { variable: folder });
        for (let number = 0; number < children; number++) {
            this.add({ name: `${name}.${number}`, folder: name, type: "Int32", value: number });
        }
        if (back) {
            const child = this.namespace.addFolder(folder, { browseName: back, nodeId: `s=${name}.${back}` });
            child.addReference({ referenceType: "Organizes", nodeId: folder.nodeId });
        }
    }

    remove(name) {
        this.addressSpace.deleteNode(this.known.get(name).variable);
        this.known.delete(name);
    }
}

module.exports = { Nodes };
