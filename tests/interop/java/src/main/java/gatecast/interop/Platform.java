package gatecast.interop;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Map;

/** Calls the hub's API with the admin token. */
record Platform(String hub, String token, HttpClient http) {
    static final Gson GSON = new Gson();

    /** The answer's body; throws where the status is not 2xx. */
    String call(String method, String path, Object body) throws Exception {
        var content = body == null ? "" : GSON.toJson(body);
        var request = HttpRequest.newBuilder(URI.create(hub + path))
                .method(method, HttpRequest.BodyPublishers.ofString(content))
                .header("Authorization", "Bearer " + token)
                .timeout(Duration.ofSeconds(10))
                .build();
        var answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() >= 300) {
            throw new IOException(method + " " + path + ": " + answer.statusCode() + " " + answer.body());
        }
        return answer.body();
    }

    JsonObject post(String path, Object body) throws Exception {
        return GSON.fromJson(call("POST", path, body), JsonObject.class);
    }

    JsonObject publish(String gateway, String type, Object payload) throws Exception {
        return post("/api/v1/gateways/" + gateway + "/events", Map.of("type", type, "payload", payload));
    }

    /** The sum of a metric over its labels. */
    long metric(String name) throws Exception {
        return call("GET", "/metrics", null).lines()
                .filter(line -> line.startsWith(name + "{") || line.startsWith(name + " "))
                .mapToLong(line -> Long.parseLong(line.substring(line.lastIndexOf(' ') + 1)))
                .sum();
    }
}
