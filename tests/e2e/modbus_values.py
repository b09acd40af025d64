"""A Modbus TCP server on pymodbus whose unit 1 holds the values of a list, written by pymodbus itself.

Usage: modbus_values.py PORT LIST. Each line of the list is TABLE ADDRESS TYPE ORDER VALUE, such as
"holding 10 FLOAT32 little 230.2": TYPE is one of pymodbus's data types, or WORD or BIT for what stands there as it is;
ORDER is that of the registers. Addresses that no line names are answered with exception 2.
"""

import asyncio
import sys

from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.datastore import ModbusDeviceContext, ModbusServerContext, ModbusSparseDataBlock
from pymodbus.server import StartAsyncTcpServer

TABLES = {"coil": "co", "discrete": "di", "holding": "hr", "input": "ir"}


def words(kind, order, text):
    if kind in ("WORD", "BIT"):
        return [int(text, 0)]
    data_type = ModbusClientMixin.DATATYPE[kind]
    value = text
    if kind.startswith("FLOAT"):
        value = float(text)
    elif kind != "STRING":
        value = int(text)
    return ModbusClientMixin.convert_to_registers(value, data_type, word_order=order)


def read(path):
    tables = {key: {} for key in TABLES.values()}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            table, address, kind, order, value = line.rstrip("\n").split(" ", 4)
            for offset, word in enumerate(words(kind, order, value)):
                tables[TABLES[table]][int(address) + offset] = word
    return {key: ModbusSparseDataBlock(values or {0: 0}) for key, values in tables.items()}


async def main():
    unit = ModbusDeviceContext(**read(sys.argv[2]))
    context = ModbusServerContext(devices={1: unit}, single=False)
    await StartAsyncTcpServer(context=context, address=("127.0.0.1", int(sys.argv[1])), ignore_missing_devices=True)


asyncio.run(main())
