/* A Modbus server on libmodbus for tests: a peer that shares no line with the gateway or its simulators.
 *
 *   libmodbus_peer tcp              a free port of 127.0.0.1
 *   libmodbus_peer rtu PORT UNIT    a serial port at 19200 8N1
 *
 * Its first line on stdout is "ready" and, for TCP, the port. It serves until it is killed, one client after another.
 * Coil i is set where i % 3 == 0, discrete input i where i % 5 == 0; holding register i holds 7 * i + 1, input
 * register i holds 65535 - i; there are 300 of each. Holding 200 and 201 hold the float 21.5, high word first.
 */

#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CELLS 300

static modbus_mapping_t *tables(void)
{
    modbus_mapping_t *map = modbus_mapping_new(CELLS, CELLS, CELLS, CELLS);

    if (map == NULL)
        return NULL;
    for (int i = 0; i < CELLS; i++) {
        map->tab_bits[i] = i % 3 == 0;
        map->tab_input_bits[i] = i % 5 == 0;
        map->tab_registers[i] = (uint16_t) (7 * i + 1);
        map->tab_input_registers[i] = (uint16_t) (65535 - i);
    }
    map->tab_registers[200] = 0x41AC; /* modbus_set_float_abcd of 3.1.6 does not do what its name says */
    map->tab_registers[201] = 0x0000;
    return map;
}

/* Answer until the client has gone, or, on a serial line, until the line has. */
static void serve(modbus_t *context, modbus_mapping_t *map, int is_serial)
{
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];

    for (;;) {
        int length = modbus_receive(context, request);

        if (length > 0)
            modbus_reply(context, request, length, map);
        else if (length < 0 && (!is_serial || errno == EIO || errno == EBADF))
            return;
    }
}

static int fail(const char *what)
{
    fprintf(stderr, "libmodbus_peer: %s: %s\n", what, modbus_strerror(errno));
    return EXIT_FAILURE;
}

static int serve_tcp(modbus_mapping_t *map)
{
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    int listening = context == NULL ? -1 : modbus_tcp_listen(context, 1);
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    if (listening < 0 || getsockname(listening, (struct sockaddr *) &address, &size) < 0)
        return fail("cannot listen");
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (modbus_tcp_accept(context, &listening) >= 0) {
        serve(context, map, 0);
        modbus_close(context);
    }
    return fail("cannot accept");
}

static int serve_rtu(modbus_mapping_t *map, const char *port, int unit)
{
    modbus_t *context = modbus_new_rtu(port, 19200, 'N', 8, 1);

    if (context == NULL || modbus_set_slave(context, unit) < 0 || modbus_connect(context) < 0)
        return fail("cannot open the port");
    printf("ready\n");
    fflush(stdout);
    serve(context, map, 1);
    return EXIT_SUCCESS;
}

int main(int count, char **arguments)
{
    modbus_mapping_t *map = tables();

    if (map == NULL)
        return fail("no memory");
    if (count == 2 && strcmp(arguments[1], "tcp") == 0)
        return serve_tcp(map);
    if (count == 4 && strcmp(arguments[1], "rtu") == 0)
        return serve_rtu(map, arguments[2], atoi(arguments[3]));
    fprintf(stderr, "usage: libmodbus_peer tcp | rtu PORT UNIT\n");
    return 2;
}
