import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

/**
 * Logs in through the JDBC driver for Flight SQL in every way that it has; who one is then, or what is said, a line each.
 * Arguments: the URL with an option, a user, a password, a personal token. How to run it: see Browse.java.
 */
public class LogIn {
    public static void main(String[] arguments) {
        String url = arguments[0];
        String user = arguments[1];
        String password = arguments[2];
        String token = arguments[3];
        line("nothing", url, new Properties());
        line("user and password in the URL", url + "&user=" + user + "&password=" + encoded(password), new Properties());
        line("user and password as properties", url, properties("user", user, "password", password));
        line("token in the URL", url + "&token=" + token, new Properties());
        line("token as a property", url, properties("token", token));
        line("wrong password", url, properties("user", user, "password", "not it"));
        line("wrong token", url, properties("token", "flash_0"));
    }

    /** As a URL wants it: a plus sign would stay one. */
    static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    static Properties properties(String... pairs) {
        Properties properties = new Properties();
        for (int at = 0; at < pairs.length; at += 2) {
            properties.put(pairs[at], pairs[at + 1]);
        }
        return properties;
    }

    static void line(String way, String url, Properties properties) {
        String answer;
        try (Connection connection = DriverManager.getConnection(url, properties);
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT current_user")) {
            rows.next();
            answer = rows.getString(1);
        } catch (SQLException error) {
            answer = "refused: " + error.getMessage().replace('\n', ' ');
        }
        System.out.println(way + " | " + answer);
    }
}
