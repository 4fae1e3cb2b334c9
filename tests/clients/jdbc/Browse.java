import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * Asks a running server what DBeaver or Tableau would ask, through the JDBC driver for Flight SQL. One line for each
 * answer, "topic | value | value ...".
 *
 * <pre>
 * mvn dependency:copy -Dartifact=org.apache.arrow:flight-sql-jdbc-driver:18.3.0 -DoutputDirectory=.
 * java --add-opens=java.base/java.nio=ALL-UNNAMED -cp flight-sql-jdbc-driver-18.3.0.jar Browse.java \
 *      'jdbc:arrow-flight-sql://127.0.0.1:50051?useEncryption=false' 'SELECT * FROM gold.kpis' ...
 * </pre>
 */
public class Browse {
    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        try (Connection connection = DriverManager.getConnection(url)) {
            capabilities(connection.getMetaData());
            browse(connection.getMetaData());
            for (int at = 1; at < arguments.length; at++) {
                statement(connection, arguments[at]);
            }
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("SELECT nothing FROM nowhere");
            } catch (SQLException error) {
                line("error", error.getMessage().replace('\n', ' '));
            }
        }
        // A user, a password and a catalog: a handshake, and an option of the session.
        Connection connection = DriverManager.getConnection(url + "&user=ann&password=secret&catalog=flash");
        try (PreparedStatement statement = connection.prepareStatement("SELECT 1 AS one")) {
            print("prepared", statement.executeQuery());
        }
        try {
            connection.close();
        } catch (SQLException error) {
            // With a catalog, driver 18.3 closes its channel and then uses it once more.
            line("closed", error.getMessage());
        }
    }

    static void capabilities(DatabaseMetaData data) throws SQLException {
        line("product", data.getDatabaseProductName(), data.getDatabaseProductVersion());
        line("escape", data.getSearchStringEscape());
        line("quote", data.getIdentifierQuoteString());
        line("keywords", data.getSQLKeywords());
        line("read only", data.isReadOnly());
        line("transactions", data.supportsTransactions(), data.getDefaultTransactionIsolation());
        line("joins", data.supportsFullOuterJoins(), data.supportsLimitedOuterJoins());
        line("lengths", data.getMaxColumnNameLength(), data.getMaxStatementLength(), data.getMaxConnections());
        line("grammar", data.supportsANSI92EntryLevelSQL(), data.supportsMinimumSQLGrammar(), data.supportsUnionAll());
        line("functions", data.getNumericFunctions().contains("sqrt"), data.getTimeDateFunctions().contains("date_trunc"));
        line("convert", data.supportsConvert(), data.supportsSubqueriesInExists(), data.supportsGroupByUnrelated());
        line("types", data.supportsResultSetType(ResultSet.TYPE_FORWARD_ONLY));
    }

    static void browse(DatabaseMetaData data) throws SQLException {
        print("catalogs", data.getCatalogs());
        print("schemas", data.getSchemas());
        print("table types", data.getTableTypes());
        print("tables", data.getTables(null, null, "%", null), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE");
        print("views", data.getTables(null, "gold", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME", "TABLE_TYPE");
        print("columns", data.getColumns(null, "gold", "kpis", "%"),
                "COLUMN_NAME", "TYPE_NAME", "DATA_TYPE", "COLUMN_SIZE", "DECIMAL_DIGITS", "IS_NULLABLE");
        print("primary keys", data.getPrimaryKeys(null, "gold", "kpis"));
        print("imported keys", data.getImportedKeys(null, "gold", "kpis"));
        print("exported keys", data.getExportedKeys(null, "gold", "kpis"));
        print("cross reference", data.getCrossReference(null, "gold", "kpis", null, "gold", "kpis"));
    }

    static void statement(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            if (statement.execute(sql)) {
                print("rows", statement.getResultSet());
            } else {
                line("updated", statement.getUpdateCount());
            }
        }
    }

    static void print(String topic, ResultSet rows, String... columns) throws SQLException {
        ResultSetMetaData data = rows.getMetaData();
        int count = 0;
        while (rows.next()) {
            Object[] values = new Object[columns.length > 0 ? columns.length : data.getColumnCount()];
            for (int at = 0; at < values.length; at++) {
                values[at] = columns.length > 0 ? rows.getObject(columns[at]) : rows.getObject(at + 1);
            }
            line(topic, values);
            count++;
        }
        rows.close(); // the driver counts its memory and fails on what is left open
        line("count of " + topic, count);
    }

    static void line(String topic, Object... values) {
        StringBuilder text = new StringBuilder(topic);
        for (Object value : values) {
            text.append(" | ").append(value);
        }
        System.out.println(text);
    }
}
