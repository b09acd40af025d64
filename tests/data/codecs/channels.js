/**
 * Payload decoder of an imagined maker, in the manner of public ones: channels of id, type and value behind one
 * another, read by a long chain of conditions, with helpers for bytes below and wrappers for three network servers.
 *
 * Made for tests; no device sends this.
 */
// Chirpstack v4
function decodeUplink(input) {
    var decoded = decodeChannels(input.bytes);
    return { data: decoded };
}

// Chirpstack v3
function Decode(fPort, bytes) {
    return decodeChannels(bytes);
}

// The Things Network
function Decoder(bytes, port) {
    return decodeChannels(bytes);
}
function decodeChannels(bytes) {
    var decoded = {};

    for (var i = 0; i < bytes.length;) {
        var channel_id = bytes[i++];
        var channel_type = bytes[i++];

        // IPSO VERSION
        if (channel_id === 0xff && channel_type === 0x01) {
            decoded.ipso_version = readProtocolVersion(bytes[i]);
            i += 1;
        }
        // HARDWARE VERSION
        else if (channel_id === 0xff && channel_type === 0x09) {
            decoded.hardware_version = readHardwareVersion(bytes.slice(i, i + 2));
            i += 2;
        }
        // FIRMWARE VERSION
        else if (channel_id === 0xff && channel_type === 0x0a) {
            decoded.firmware_version = readFirmwareVersion(bytes.slice(i, i + 2));
            i += 2;
        }
        // SERIAL NUMBER
        else if (channel_id === 0xff && channel_type === 0x16) {
            decoded.sn = readSerialNumber(bytes.slice(i, i + 8));
            i += 8;
        }
        // BATTERY
        else if (channel_id === 0x01 && channel_type === 0x75) {
            decoded.battery = readUInt8(bytes[i]);
            i += 1;
        }
        // DISTANCE
        else if (channel_id === 0x03 && channel_type === 0x82) {
            var distance_value = readUInt16LE(bytes.slice(i, i + 2));
            if (distance_value === 0xfffd) {
                decoded.distance_exception = "over range";
            } else if (distance_value === 0xffff) {
                decoded.distance_exception = "no target";
            } else {
                decoded.distance = distance_value;
            }
            i += 2;
        }
        // COVER
        else if (channel_id === 0x04 && channel_type === 0x00) {
            decoded.cover = readCoverStatus(bytes[i]);
            i += 1;
        }
        // TILT
        else if (channel_id === 0x05 && channel_type === 0xcf) {
            decoded.angle_x = readInt16LE(bytes.slice(i, i + 2)) / 100;
            decoded.angle_y = readInt16LE(bytes.slice(i + 2, i + 4)) / 100;
            decoded.angle_z = readInt16LE(bytes.slice(i + 4, i + 6)) / 100;
            var triggers = bytes[i + 6];
            decoded.threshold_x = readTriggerStatus((triggers >>> 0) & 0x01);
            decoded.threshold_y = readTriggerStatus((triggers >>> 1) & 0x01);
            decoded.threshold_z = readTriggerStatus((triggers >>> 2) & 0x01);
            i += 7;
        }
        // PULSE COUNTER
        else if (channel_id === 0x06 && channel_type === 0xc8) {
            decoded.counter = readUInt32LE(bytes.slice(i, i + 4));
            i += 4;
        }
        // FLOAT METER
        else if (channel_id === 0x07 && channel_type === 0xe2) {
            decoded.volume = readFloat16LE(bytes.slice(i, i + 2));
            decoded.energy = readFloatLE(bytes.slice(i + 2, i + 6));
            i += 6;
        }
        // LOCATION
        else if (channel_id === 0x08 && channel_type === 0x88) {
            decoded.latitude = readInt32LE(bytes.slice(i, i + 4)) / 1000000;
            decoded.longitude = readInt32LE(bytes.slice(i + 4, i + 8)) / 1000000;
            i += 8;
        }
        // TEXT
        else if (channel_id === 0x09 && channel_type === 0x7f) {
            var text_length = bytes[i];
            decoded.text = readAscii(bytes.slice(i + 1, i + 1 + text_length));
            i += 1 + text_length;
        }
        // TEMPERATURE OF PROBE 1
        else if (channel_id === 0x10 && channel_type === 0x67) {
            decoded.probe_1_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 1
        else if (channel_id === 0x10 && channel_type === 0x68) {
            decoded.probe_1_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 1
        else if (channel_id === 0x10 && channel_type === 0x73) {
            decoded.probe_1_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 1
        else if (channel_id === 0x10 && channel_type === 0x7d) {
            decoded.probe_1_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 1
        else if (channel_id === 0x10 && channel_type === 0x99) {
            decoded.probe_1_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 1
        else if (channel_id === 0x10 && channel_type === 0xb9) {
            decoded.probe_1_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 2
        else if (channel_id === 0x11 && channel_type === 0x67) {
            decoded.probe_2_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 2
        else if (channel_id === 0x11 && channel_type === 0x68) {
            decoded.probe_2_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 2
        else if (channel_id === 0x11 && channel_type === 0x73) {
            decoded.probe_2_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 2
        else if (channel_id === 0x11 && channel_type === 0x7d) {
            decoded.probe_2_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 2
        else if (channel_id === 0x11 && channel_type === 0x99) {
            decoded.probe_2_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 2
        else if (channel_id === 0x11 && channel_type === 0xb9) {
            decoded.probe_2_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 3
        else if (channel_id === 0x12 && channel_type === 0x67) {
            decoded.probe_3_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 3
        else if (channel_id === 0x12 && channel_type === 0x68) {
            decoded.probe_3_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 3
        else if (channel_id === 0x12 && channel_type === 0x73) {
            decoded.probe_3_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 3
        else if (channel_id === 0x12 && channel_type === 0x7d) {
            decoded.probe_3_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 3
        else if (channel_id === 0x12 && channel_type === 0x99) {
            decoded.probe_3_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 3
        else if (channel_id === 0x12 && channel_type === 0xb9) {
            decoded.probe_3_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 4
        else if (channel_id === 0x13 && channel_type === 0x67) {
            decoded.probe_4_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 4
        else if (channel_id === 0x13 && channel_type === 0x68) {
            decoded.probe_4_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 4
        else if (channel_id === 0x13 && channel_type === 0x73) {
            decoded.probe_4_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 4
        else if (channel_id === 0x13 && channel_type === 0x7d) {
            decoded.probe_4_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 4
        else if (channel_id === 0x13 && channel_type === 0x99) {
            decoded.probe_4_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 4
        else if (channel_id === 0x13 && channel_type === 0xb9) {
            decoded.probe_4_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 5
        else if (channel_id === 0x14 && channel_type === 0x67) {
            decoded.probe_5_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 5
        else if (channel_id === 0x14 && channel_type === 0x68) {
            decoded.probe_5_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 5
        else if (channel_id === 0x14 && channel_type === 0x73) {
            decoded.probe_5_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 5
        else if (channel_id === 0x14 && channel_type === 0x7d) {
            decoded.probe_5_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 5
        else if (channel_id === 0x14 && channel_type === 0x99) {
            decoded.probe_5_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 5
        else if (channel_id === 0x14 && channel_type === 0xb9) {
            decoded.probe_5_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 6
        else if (channel_id === 0x15 && channel_type === 0x67) {
            decoded.probe_6_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 6
        else if (channel_id === 0x15 && channel_type === 0x68) {
            decoded.probe_6_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 6
        else if (channel_id === 0x15 && channel_type === 0x73) {
            decoded.probe_6_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 6
        else if (channel_id === 0x15 && channel_type === 0x7d) {
            decoded.probe_6_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 6
        else if (channel_id === 0x15 && channel_type === 0x99) {
            decoded.probe_6_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 6
        else if (channel_id === 0x15 && channel_type === 0xb9) {
            decoded.probe_6_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 7
        else if (channel_id === 0x16 && channel_type === 0x67) {
            decoded.probe_7_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 7
        else if (channel_id === 0x16 && channel_type === 0x68) {
            decoded.probe_7_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 7
        else if (channel_id === 0x16 && channel_type === 0x73) {
            decoded.probe_7_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 7
        else if (channel_id === 0x16 && channel_type === 0x7d) {
            decoded.probe_7_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 7
        else if (channel_id === 0x16 && channel_type === 0x99) {
            decoded.probe_7_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 7
        else if (channel_id === 0x16 && channel_type === 0xb9) {
            decoded.probe_7_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // TEMPERATURE OF PROBE 8
        else if (channel_id === 0x17 && channel_type === 0x67) {
            decoded.probe_8_temperature = readInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // HUMIDITY OF PROBE 8
        else if (channel_id === 0x17 && channel_type === 0x68) {
            decoded.probe_8_humidity = readUInt8(bytes[i]) / 2;
            i += 1;
        }
        // PRESSURE OF PROBE 8
        else if (channel_id === 0x17 && channel_type === 0x73) {
            decoded.probe_8_pressure = readUInt16LE(bytes.slice(i, i + 2)) / 10;
            i += 2;
        }
        // CO2 OF PROBE 8
        else if (channel_id === 0x17 && channel_type === 0x7d) {
            decoded.probe_8_co2 = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // CURRENT OF PROBE 8
        else if (channel_id === 0x17 && channel_type === 0x99) {
            decoded.probe_8_current = readUInt16LE(bytes.slice(i, i + 2)) / 100;
            i += 2;
        }
        // VOLTAGE OF PROBE 8
        else if (channel_id === 0x17 && channel_type === 0xb9) {
            decoded.probe_8_voltage = readUInt16LE(bytes.slice(i, i + 2));
            i += 2;
        }
        // HISTORY
        else if (channel_id === 0x20 && channel_type === 0xce) {
            var timestamp = readUInt32LE(bytes.slice(i, i + 4));
            var data = { timestamp: timestamp, distance: readUInt16LE(bytes.slice(i + 4, i + 6)) };
            decoded.history = decoded.history || [];
            decoded.history.push(data);
            i += 6;
        }
        // ANSWER TO A DOWNLINK
        else if (channel_id === 0xfe || channel_id === 0xff) {
            var result = readAnswer(channel_type, bytes, i);
            decoded = Object.assign(decoded, result.data);
            i = result.offset;
        } else {
            break;
        }
    }

    return decoded;
}

function readAnswer(channel_type, bytes, offset) {
    var decoded = {};

    switch (channel_type) {
        case 0x03:
            decoded.report_interval = readUInt16LE(bytes.slice(offset, offset + 2));
            offset += 2;
            break;
        case 0x10:
            decoded.reboot = readYesNoStatus(1);
            offset += 1;
            break;
        case 0x28:
            decoded.report_status = readYesNoStatus(1);
            offset += 1;
            break;
        case 0x8e:
            decoded.report_interval = readUInt16LE(bytes.slice(offset + 1, offset + 3)) * 60;
            offset += 3;
            break;
        default:
            throw new Error("no such answer: " + channel_type);
    }

    return { data: decoded, offset: offset };
}

/* ******************************************
 * bytes to number
 ********************************************/
function readUInt8(bytes) {
    return bytes & 0xff;
}

function readInt8(bytes) {
    var ref = readUInt8(bytes);
    return ref > 0x7f ? ref - 0x100 : ref;
}

function readUInt16LE(bytes) {
    var value = (bytes[1] << 8) + bytes[0];
    return value & 0xffff;
}

function readInt16LE(bytes) {
    var ref = readUInt16LE(bytes);
    return ref > 0x7fff ? ref - 0x10000 : ref;
}

function readUInt32LE(bytes) {
    var value = (bytes[3] << 24) + (bytes[2] << 16) + (bytes[1] << 8) + bytes[0];
    return (value & 0xffffffff) >>> 0;
}

function readInt32LE(bytes) {
    var ref = readUInt32LE(bytes);
    return ref > 0x7fffffff ? ref - 0x100000000 : ref;
}

function readFloat16LE(bytes) {
    var bits = (bytes[1] << 8) | bytes[0];
    var sign = bits >>> 15 === 0 ? 1.0 : -1.0;
    var e = (bits >>> 10) & 0x1f;
    var m = e === 0 ? (bits & 0x3ff) << 1 : (bits & 0x3ff) | 0x400;
    var f = sign * m * Math.pow(2, e - 25);
    return Number(f.toFixed(2));
}

function readFloatLE(bytes) {
    var bits = (bytes[3] << 24) | (bytes[2] << 16) | (bytes[1] << 8) | bytes[0];
    var sign = bits >>> 31 === 0 ? 1.0 : -1.0;
    var e = (bits >>> 23) & 0xff;
    var m = e === 0 ? (bits & 0x7fffff) << 1 : (bits & 0x7fffff) | 0x800000;
    var f = sign * m * Math.pow(2, e - 150);
    return Number(f.toFixed(3));
}

function readAscii(bytes) {
    var str = "";
    for (i = 0; i < bytes.length; i++) {
        if (bytes[i] === 0) {
            break;
        }
        str += String.fromCharCode(bytes[i]);
    }
    return str;
}

/* ******************************************
 * numbers to words
 ********************************************/
function wordOf(map, key) {
    return map[key] || "undefined " + key;
}

function readProtocolVersion(bytes) {
    var major = (bytes & 0xf0) >> 4;
    var minor = bytes & 0x0f;
    return "v" + major + "." + minor;
}

function readHardwareVersion(bytes) {
    var major = (bytes[0] & 0xff).toString(16);
    var minor = (bytes[1] & 0xff) >> 4;
    return "v" + major + "." + minor;
}

function readFirmwareVersion(bytes) {
    var major = (bytes[0] & 0xff).toString(16);
    var minor = (bytes[1] & 0xff).toString(16);
    return "v" + major + "." + minor;
}

function readSerialNumber(bytes) {
    var temp = [];
    for (var idx = 0; idx < bytes.length; idx++) {
        temp.push(("0" + (bytes[idx] & 0xff).toString(16)).slice(-2));
    }
    return temp.join("");
}

function readCoverStatus(status) {
    var status_map = { 0: "closed", 1: "open" };
    return wordOf(status_map, status);
}

function readTriggerStatus(status) {
    var status_map = { 0: "normal", 1: "trigger" };
    return wordOf(status_map, status);
}

function readYesNoStatus(status) {
    var status_map = { 0: "no", 1: "yes" };
    return wordOf(status_map, status);
}

if (!Object.assign) {
    Object.defineProperty(Object, "assign", {
        configurable: true,
        writable: true,
        value: function (target) {
            "use strict";
            for (var i = 1; i < arguments.length; i++) {
                for (var key in arguments[i]) {
                    target[key] = arguments[i][key];
                }
            }
            return target;
        },
    });
}
