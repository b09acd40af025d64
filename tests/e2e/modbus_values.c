/* A Modbus server on libmodbus whose unit 1 holds the values of a list, written by libmodbus itself.
 *
 * Usage: modbus_values tcp PORT LIST, or modbus_values rtu LIST, which prints the serial port to connect to.
 * Each line of the list is TABLE ADDRESS TYPE ORDER VALUE, such as "holding 10 FLOAT32 badc 230.2". INT32 and INT64 are
 * in the order of the specification, WORD and BIT stand there as they are. Addresses from 256 on are answered with
 * exception 2. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ADDRESSES = 256, UNIT = 1, LINE_BYTES = 256 };

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

/* libmodbus 3.1 names the orders as the bytes lie in the memory of a little-endian machine, so that in every register
 * the two are the other way round on the wire: what it calls badc is abcd there. */
static void set_float(uint16_t *at, const char *order, float value) {
    if (strcmp(order, "abcd") == 0) modbus_set_float_badc(value, at);
    else if (strcmp(order, "cdab") == 0) modbus_set_float_dcba(value, at);
    else if (strcmp(order, "badc") == 0) modbus_set_float_abcd(value, at);
    else if (strcmp(order, "dcba") == 0) modbus_set_float_cdab(value, at);
    else fail(order);
}

static void set(modbus_mapping_t *map, const char *table, int address, const char *type, const char *order,
                const char *value) {
    if (address < 0 || address + 4 > ADDRESSES) fail("an address beyond the table");
    if (strcmp(table, "coil") == 0) {
        map->tab_bits[address] = (uint8_t)atoi(value);
        return;
    }
    if (strcmp(table, "discrete") == 0) {
        map->tab_input_bits[address] = (uint8_t)atoi(value);
        return;
    }
    uint16_t *words = strcmp(table, "input") == 0 ? map->tab_input_registers : map->tab_registers;
    if (strcmp(type, "WORD") == 0) words[address] = (uint16_t)strtol(value, NULL, 0);
    else if (strcmp(type, "INT32") == 0) MODBUS_SET_INT32_TO_INT16(words, address, (int32_t)strtol(value, NULL, 10));
    else if (strcmp(type, "INT64") == 0) MODBUS_SET_INT64_TO_INT16(words, address, (int64_t)strtoll(value, NULL, 10));
    else if (strcmp(type, "FLOAT32") == 0) set_float(&words[address], order, strtof(value, NULL));
    else fail(type);
}

static modbus_mapping_t *read_list(const char *path) {
    modbus_mapping_t *map = modbus_mapping_new(ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES);
    FILE *list = fopen(path, "r");
    if (map == NULL || list == NULL) fail(path);
    char line[LINE_BYTES], table[16], type[16], order[16], value[64];
    int address;
    while (fgets(line, sizeof line, list) != NULL) {
        if (sscanf(line, "%15s %d %15s %15s %63s", table, &address, type, order, value) != 5) fail(line);
        set(map, table, address, type, order, value);
    }
    fclose(list);
    return map;
}

static void serve_tcp(modbus_mapping_t *map, int port) {
    modbus_t *modbus = modbus_new_tcp("127.0.0.1", port);
    int listener = modbus == NULL ? -1 : modbus_tcp_listen(modbus, 1);
    if (listener == -1) fail("listen");
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        if (modbus_tcp_accept(modbus, &listener) == -1) fail("accept");
        int length;
        while ((length = modbus_receive(modbus, request)) >= 0) {
            if (length > 0) modbus_reply(modbus, request, length, map);
        }
        modbus_close(modbus);
    }
}

/* libmodbus opens the controlling side of a pseudo-terminal; the other side is the serial port of the gateway. */
static void serve_rtu(modbus_mapping_t *map) {
    modbus_t *modbus = modbus_new_rtu("/dev/ptmx", 9600, 'N', 8, 1);
    if (modbus == NULL || modbus_set_slave(modbus, UNIT) == -1 || modbus_connect(modbus) == -1) fail("open");
    int side = modbus_get_socket(modbus);
    if (grantpt(side) == -1 || unlockpt(side) == -1) fail("unlock");
    const char *port = ptsname(side);
    /* Held open, so that the line does not break when the gateway closes its end. */
    if (port == NULL || open(port, O_RDWR | O_NOCTTY) == -1) fail("hold");
    printf("%s\n", port);
    fflush(stdout);
    uint8_t request[MODBUS_RTU_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(modbus, request);
        if (length > 0) modbus_reply(modbus, request, length, map);
    }
}

int main(int count, char **arguments) {
    if (count == 4 && strcmp(arguments[1], "tcp") == 0) serve_tcp(read_list(arguments[3]), atoi(arguments[2]));
    if (count == 3 && strcmp(arguments[1], "rtu") == 0) serve_rtu(read_list(arguments[2]));
    fprintf(stderr, "usage: modbus_values tcp PORT LIST | rtu LIST\n");
    return 2;
}
