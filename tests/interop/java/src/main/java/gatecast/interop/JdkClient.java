package gatecast.interop;

import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;

/** The JDK's own client, `java.net.http`. It offers no extension and answers pings by itself. */
final class JdkClient implements Client {
    private final SSLContext tls;
    private final HttpClient trusting;
    private final HttpClient strange = HttpClient.newHttpClient();

    JdkClient(SSLContext tls) {
        this.tls = tls;
        trusting = HttpClient.newBuilder().sslContext(tls).build();
    }

    @Override
    public String name() {
        return "java HttpClient " + Runtime.version().feature();
    }

    @Override
    public Connection connect(URI uri, String key, boolean trusting) throws Exception {
        return connect(trusting ? this.trusting : strange, uri, key);
    }

    /** With an authenticator, this client reports a 401 without `WWW-Authenticate` as an IOException and not as an answer. */
    @Override
    public void checkOwn(Checks checks, URI uri, String key) {
        var authenticator = new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication("user", "password".toCharArray());
            }
        };
        var client = HttpClient.newBuilder().sslContext(tls).authenticator(authenticator).build();
        String found;
        try {
            connect(client, uri, "no-such-key");
            found = "connected";
        } catch (Exception error) {
            found = error.getMessage();
        }
        checks.check("with an authenticator it still sees the 401", found, "refused with 401");
    }

    private static Connection connect(HttpClient client, URI uri, String key) throws Exception {
        var connection = new JdkConnection();
        try {
            var opening = client.newWebSocketBuilder().header("api-key", key).buildAsync(uri, connection);
            connection.socket = opening.get(5, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof WebSocketHandshakeException answer && answer.getResponse() != null) {
                throw new Refused(answer.getResponse().statusCode());
            }
            throw error;
        }
        return connection;
    }

    private static final class JdkConnection extends Connection implements WebSocket.Listener {
        private final StringBuilder parts = new StringBuilder();
        WebSocket socket;

        @Override
        void send(String text) {
            socket.sendText(text, true).join();
        }

        @Override
        void ping(String payload) {
            socket.sendPing(StandardCharsets.UTF_8.encode(payload)).join();
        }

        @Override
        void close(int code, String reason) {
            socket.sendClose(code, reason).join();
        }

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            parts.append(data);
            if (last) {
                messages.add(parts.toString());
                parts.setLength(0);
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onPing(WebSocket socket, ByteBuffer payload) {
            pings.incrementAndGet();
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onPong(WebSocket socket, ByteBuffer payload) {
            pongs.add(StandardCharsets.UTF_8.decode(payload).toString());
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            // The client answers with a close frame of its own when this returns null.
            closed.complete(new Closed(code, reason));
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            closed.complete(new Closed(1006, error.toString()));
        }
    }
}
