"""A Modbus TCP server on pymodbus: units 1 and 2 have holding registers 0 to 9; every other unit fails.

Usage: modbus_server.py PORT. Registers are set with Modbus itself (function 6).
"""

import asyncio
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import StartAsyncTcpServer

REGISTERS = 10
UNITS = (1, 2)

try:  # From 3.10 on pymodbus speaks of devices, before of slaves.
    from pymodbus.datastore import ModbusDeviceContext as UnitContext

    UNITS_KEYWORD, IGNORE_KEYWORD = "devices", "ignore_missing_devices"
except ImportError:
    from pymodbus.datastore import ModbusSlaveContext as UnitContext

    UNITS_KEYWORD, IGNORE_KEYWORD = "slaves", "ignore_missing_slaves"


def unit():
    # Blocks count from 1, the wire from 0.
    return UnitContext(hr=ModbusSequentialDataBlock(1, [0] * REGISTERS))


async def main():
    context = ModbusServerContext(**{UNITS_KEYWORD: {number: unit() for number in UNITS}, "single": False})
    await StartAsyncTcpServer(context=context, address=("127.0.0.1", int(sys.argv[1])), **{IGNORE_KEYWORD: True})


asyncio.run(main())
