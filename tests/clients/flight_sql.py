"""Flight SQL for pyarrow.flight, which speaks Arrow Flight only: the messages are written and read by hand.

    Client.query(sql)     GetFlightInfo(CommandStatementQuery) ─▶ ticket ─▶ DoGet
    Client.update(sql)    DoPut(CommandStatementUpdate) ─▶ count
    Client.prepare(sql)   CreatePreparedStatement ─▶ handle; values by DoPut

A message of protobuf is a dict here, from field number to value: text, bytes (also of an inner message), int or bool.
"""

import pyarrow
from pyarrow import flight

TYPES = "type.googleapis.com/arrow.flight.protocol.sql."


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(fields):
    out = b""
    for number, value in fields.items():
        if isinstance(value, (bool, int)):
            out += varint(number << 3) + varint(int(value))
        else:
            value = value.encode() if isinstance(value, str) else bytes(value)
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def parse(data):
    """Fields by number; of a repeated one the last. Fixed-width fields are not in the messages that are read here."""
    data, at, fields = bytes(data), 0, {}

    def number():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                return value

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        fields[key >> 3] = value
    return fields


def any_of(name, fields):
    """A command or a request, as Flight SQL wants it: in an Any."""
    return message({1: TYPES + name, 2: message(fields)})


def unpacked(data):
    return parse(parse(data)[2])


class Client:
    """One connection; `headers` go with every call."""

    def __init__(self, url, headers=(), **options):
        # Otherwise all connections of a process to one address are one.
        options.setdefault("generic_options", [("grpc.use_local_subchannel_pool", 1)])
        self.flight = flight.FlightClient(url, **options)
        self.headers = list(headers)

    def log_in(self, user, password):
        """By handshake; from then on the bearer token that came back goes with every call."""
        self.headers = [self.flight.authenticate_basic_token(user, password)]

    def options(self, timeout=None):
        return flight.FlightCallOptions(headers=self.headers, timeout=timeout)

    def info(self, name, fields, timeout=None):
        descriptor = flight.FlightDescriptor.for_command(any_of(name, fields))
        return self.flight.get_flight_info(descriptor, self.options(timeout))

    def execute(self, sql, timeout=None):
        return self.info("CommandStatementQuery", {1: sql}, timeout)

    def fetch(self, info, timeout=None):
        return self.flight.do_get(info.endpoints[0].ticket, self.options(timeout))

    def query(self, sql):
        return self.fetch(self.execute(sql)).read_all()

    def rows(self, sql):
        return [tuple(row.values()) for row in self.query(sql).to_pylist()]

    def action(self, name, body=b""):
        """The bodies of the results."""
        results = self.flight.do_action(flight.Action(name, body), self.options())
        return [result.body.to_pybytes() for result in results]

    def put(self, name, fields, table=pyarrow.table({})):
        """What the server says of it."""
        descriptor = flight.FlightDescriptor.for_command(any_of(name, fields))
        writer, said = self.flight.do_put(descriptor, table.schema, self.options())
        writer.write_table(table)
        writer.done_writing()
        answer = said.read()
        writer.close()
        return parse(answer.to_pybytes()) if answer else {}

    def update(self, sql):
        return self.put("CommandStatementUpdate", {1: sql}).get(1, 0)

    def prepare(self, sql):
        (body,) = self.action("CreatePreparedStatement", any_of("ActionCreatePreparedStatementRequest", {1: sql}))
        fields = unpacked(body)
        read = lambda number: pyarrow.ipc.read_schema(pyarrow.py_buffer(fields[number]))
        return Prepared(self, fields[1], read(2), read(3), bool(fields.get(4)))

    def cancel(self, info):
        return parse(self.action("CancelFlightInfo", message({1: info.serialize()}))[0])


class Prepared:
    def __init__(self, client, handle, columns, parameters, is_update):
        self.client, self.handle = client, handle
        self.columns, self.parameters, self.is_update = columns, parameters, is_update

    def query(self, values=None):
        if values is not None:
            self.handle = self.client.put("CommandPreparedStatementQuery", {1: self.handle}, values).get(1, self.handle)
        return self.client.info("CommandPreparedStatementQuery", {1: self.handle})

    def update(self, values=pyarrow.table({})):
        return self.client.put("CommandPreparedStatementUpdate", {1: self.handle}, values).get(1, 0)

    def close(self):
        self.client.action("ClosePreparedStatement", any_of("ActionClosePreparedStatementRequest", {1: self.handle}))
