package gatecast.interop;

import java.io.File;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.TrustManagerFactory;

/**
 * A gateway on a WebSocket library of Java, `jdk` or `netty` by the argument: connects over wss and prints a line for each
 * thing that holds or does not.
 *
 * Environment: HUB (https://host:port), CA (PEM file), ADMIN_TOKEN (its text). A line `hub: restart` asks run.py for that.
 */
final class Main {
    private static final int CLOSES = 5;
    /** Longer than the hub's timeout as run.py sets it, which is three of its intervals. */
    private static final long QUIET_MILLISECONDS = 4000;

    private final Client client;
    private final Checks checks;
    private final Platform platform;
    private final URI uri;
    private final String gateway;

    public static void main(String[] arguments) throws Exception {
        var ca = new File(System.getenv("CA"));
        var tls = trusting(ca);
        var client = arguments[0].equals("jdk") ? new JdkClient(tls) : new NettyClient(ca);
        var checks = new Checks(client.name());
        try {
            var http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(tls).build();
            var platform = new Platform(System.getenv("HUB"), System.getenv("ADMIN_TOKEN"), http);
            new Main(client, checks, platform, arguments[0]).run();
        } catch (Exception error) {
            error.printStackTrace(System.out);
            checks.check("it runs to its end", error, "no exception");
        }
        System.exit(0);
    }

    private Main(Client client, Checks checks, Platform platform, String name) throws Exception {
        this.client = client;
        this.checks = checks;
        this.platform = platform;
        uri = URI.create(platform.hub().replace("https://", "wss://") + "/api/internal/v1/ws/gateways/connect");
        gateway = platform.post("/api/v1/gateways", Map.of("name", name)).get("id").getAsString();
    }

    /** Trusts the certificates of a PEM file and no others. */
    private static SSLContext trusting(File pem) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var file = new FileInputStream(pem)) {
            store.setCertificateEntry("hub", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }

    private void run() throws Exception {
        var tokens = "/api/v1/gateways/" + gateway + "/tokens";
        var token = platform.post(tokens, Map.of());
        var key = token.get("token").getAsString();
        checkRefusals(key);

        var connection = client.connect(uri, key, true);
        checkAck("the first frame is the ack of its gateway", connection);
        checkEvents(connection);
        checkHeartbeat(connection);
        checkDeployment(connection);
        checkCloses(key);

        System.out.println("hub: restart");
        checkClosed("a hub that drains closes it with 1001", connection, 1001, "server shutdown");
        connection = reconnect(key);
        checkAck("no refusal during the restart is final, and the new hub lets it in", connection);

        platform.call("DELETE", tokens + "/" + token.get("id").getAsString(), null);
        checkClosed("revoking its token closes it with 1008", connection, 1008, "key revoked");
        checks.check("a revoked token is refused with 401", failure(key, true), "refused with 401");

        client.checkOwn(checks, uri, platform.post(tokens, Map.of()).get("token").getAsString());
    }

    private void checkRefusals(String key) {
        checks.check("without the hub's CA it does not trust the hub", failure(key, false), "not trusted");
        checks.check("an unknown key is refused with 401", failure("no-such-key", true), "refused with 401");
    }

    /** How an attempt to connect fails. */
    private String failure(String key, boolean trusting) {
        try {
            client.connect(uri, key, trusting);
            return "connected";
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause instanceof SSLHandshakeException) {
                    return "not trusted";
                }
            }
            return error.getMessage();
        }
    }

    private void checkAck(String what, Connection connection) throws Exception {
        var ack = Platform.GSON.fromJson(Connection.take(connection.messages), Event.class);
        checks.check(what, List.of(ack.type, ack.gatewayId), List.of("connection.ack", gateway));
    }

    private void checkEvents(Connection connection) throws Exception {
        var sent = new ArrayList<>();
        for (int number = 0; number < 3; number++) {
            // The last two come in several frames.
            var text = "ä€😀".repeat(20_000 * number);
            var answer = platform.publish(gateway, "interop.event", Map.of("number", number, "text", text));
            sent.add(List.of(number, answer.get("position").getAsString(), text.hashCode()));
        }
        var received = new ArrayList<>();
        while (received.size() < sent.size()) {
            var event = Platform.GSON.fromJson(Connection.take(connection.messages), Event.class);
            received.add(List.of(event.payload.number, event.position, event.payload.text.hashCode()));
        }
        checks.check("three events arrive whole and in order, as text", received, sent);
    }

    private void checkHeartbeat(Connection connection) throws Exception {
        connection.ping("hello");
        checks.check("its own ping is answered", Connection.take(connection.pongs), "hello");
        int before = connection.pings.get();
        Thread.sleep(QUIET_MILLISECONDS);
        var found = List.of(connection.pings.get() - before >= 2, connection.closed.isDone());
        checks.check("it answers the hub's pings and stays connected past the timeout", found, List.of(true, false));
    }

    private void checkDeployment(Connection connection) throws Exception {
        long before = platform.metric("gatecast_deployments_acknowledged_total");
        long malformed = platform.metric("gatecast_malformed_messages_total");
        var payload = Map.of("deploymentId", "d", "artifactId", "a", "resourceType", "api", "action", "deploy",
                "status", "success", "performedAt", "2026-01-01T00:00:00.123456789Z");
        connection.send(Platform.GSON.toJson(Map.of("type", "deployment.ack", "payload", payload)));
        long after = before;
        for (int attempt = 0; attempt < 100 && after == before; attempt++) {
            Thread.sleep(20);
            after = platform.metric("gatecast_deployments_acknowledged_total");
        }
        var found = List.of(after, platform.metric("gatecast_malformed_messages_total"));
        checks.check("its deployment.ack is counted", found, List.of(before + 1, malformed));
    }

    private void checkCloses(String key) throws Exception {
        var found = new ArrayList<Integer>();
        for (int number = 0; number < CLOSES; number++) {
            var connection = client.connect(uri, key, true);
            Connection.take(connection.messages);
            connection.close(1000, "done");
            found.add(connection.awaitClosed().code());
        }
        checks.check("its close with 1000 is answered with 1000, each time", found, Collections.nCopies(CLOSES, 1000));
    }

    private void checkClosed(String what, Connection connection, int code, String reason) throws Exception {
        checks.check(what, connection.awaitClosed(), new Connection.Closed(code, reason));
    }

    /** Connects to a hub that restarts, which answers 503 or nothing until it is ready again. */
    private Connection reconnect(String key) throws Exception {
        for (int attempt = 0; ; attempt++) {
            try {
                return client.connect(uri, key, true);
            } catch (Exception error) {
                boolean isFinal = error instanceof Client.Refused refused && refused.status != 503;
                if (isFinal || attempt == 100) {
                    throw error;
                }
                Thread.sleep(100);
            }
        }
    }

    /** The members of the hub's messages that the checks look at. */
    private static final class Event {
        String type;
        String gatewayId;
        String position;
        Payload payload;
    }

    private static final class Payload {
        int number;
        String text;
    }
}
