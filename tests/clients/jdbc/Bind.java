import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;

/**
 * Binds parameters through the JDBC driver for Flight SQL: every type, NULLs, batches, updates. One line for each
 * answer, "topic | value | value ...". It makes the table public.bound. How to run it: see Browse.java.
 */
public class Bind {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("CREATE TABLE public.bound (id BIGINT, small SMALLINT, flag BOOLEAN, "
                        + "real_ REAL, double_ DOUBLE, price DECIMAL(12, 2), name VARCHAR, bytes BYTEA, day DATE, "
                        + "at TIMESTAMP, moment TIMESTAMPTZ)");
            }
            types(connection);
            insert(connection);
            change(connection);
            wrong(connection);
        }
    }

    static void types(Connection connection) throws SQLException {
        String sql = "SELECT id FROM public.bound WHERE price > ? AND day = ? AND moment < ? AND name = ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            ParameterMetaData data = statement.getParameterMetaData();
            for (int at = 1; at <= data.getParameterCount(); at++) {
                line("parameter", data.getParameterTypeName(at), data.isNullable(at));
            }
        }
    }

    static void insert(Connection connection) throws SQLException {
        String sql = "INSERT INTO public.bound VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            row(statement, 1);
            line("inserted", statement.executeUpdate());
            statement.clearParameters();
            for (int id = 2; id <= 500; id++) {
                row(statement, id);
                statement.addBatch();
            }
            int[] counts = statement.executeBatch();
            int total = 0;
            for (int count : counts) {
                total += count;
            }
            line("batch", total);
            statement.setLong(1, 1000);
            for (int at = 2; at <= 11; at++) {
                statement.setNull(at, Types.NULL);
            }
            line("nulls", statement.executeUpdate());
        }
        print(connection, "stored", "SELECT * FROM public.bound WHERE id = 7");
        print(connection, "stored", "SELECT * FROM public.bound WHERE id = 1000");
        print(connection, "total", "SELECT count(*), sum(id), count(price) FROM public.bound");
    }

    static void row(PreparedStatement statement, int id) throws SQLException {
        statement.setLong(1, id);
        statement.setShort(2, (short) (id % 100));
        statement.setBoolean(3, id % 2 == 1);
        statement.setFloat(4, id + 0.5f);
        statement.setDouble(5, id + 0.25);
        statement.setBigDecimal(6, new BigDecimal("0.25").add(new BigDecimal(id)));
        statement.setString(7, "n" + id);
        statement.setBytes(8, new byte[] {1, 2});
        statement.setDate(9, Date.valueOf("2026-11-23"));
        statement.setTimestamp(10, Timestamp.valueOf("2026-11-23 12:30:15.123"));
        statement.setTimestamp(11, Timestamp.valueOf("2026-11-23 12:30:15.123"));
    }

    static void change(Connection connection) throws SQLException {
        String sql = "SELECT id, name FROM public.bound WHERE price = ? AND at = ? AND flag = ? AND name LIKE ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int id = 7; id <= 9; id += 2) {
                statement.setBigDecimal(1, new BigDecimal(id + ".25"));
                statement.setTimestamp(2, Timestamp.valueOf("2026-11-23 12:30:15.123"));
                statement.setBoolean(3, true);
                statement.setString(4, "n%");
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        line("found", rows.getLong(1), rows.getString(2));
                    }
                }
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("UPDATE public.bound SET name = ? WHERE id = ?")) {
            statement.setString(1, "seven");
            statement.setLong(2, 7);
            line("updated", statement.executeUpdate());
        }
        try (PreparedStatement statement = connection.prepareStatement("DELETE FROM public.bound WHERE id > ?")) {
            statement.setLong(1, 10);
            line("deleted", statement.executeUpdate());
        }
        print(connection, "left", "SELECT count(*), max(name) FROM public.bound");
    }

    static void wrong(Connection connection) throws SQLException {
        // (What is not set at all never reaches the server: the driver refuses it.)
        try (PreparedStatement statement = connection.prepareStatement("SELECT 10 / CAST(? AS BIGINT)")) {
            statement.setLong(1, 0);
            statement.executeQuery().next();
            line("wrong", "taken");
        } catch (SQLException error) {
            line("wrong", error.getMessage().replace('\n', ' '));
        }
    }

    static void print(Connection connection, String topic, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            while (rows.next()) {
                Object[] values = new Object[rows.getMetaData().getColumnCount()];
                for (int at = 0; at < values.length; at++) {
                    Object value = rows.getObject(at + 1);
                    values[at] = value instanceof byte[] ? ((byte[]) value).length + " bytes" : value;
                }
                line(topic, values);
            }
        }
    }

    static void line(String topic, Object... values) {
        StringBuilder text = new StringBuilder(topic);
        for (Object value : values) {
            text.append(" | ").append(value);
        }
        System.out.println(text);
    }
}
