package gatecast.interop;

import io.netty.bootstrap.Bootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.DefaultHttpHeaders;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.websocketx.CloseWebSocketFrame;
import io.netty.handler.codec.http.websocketx.PingWebSocketFrame;
import io.netty.handler.codec.http.websocketx.PongWebSocketFrame;
import io.netty.handler.codec.http.websocketx.TextWebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketClientHandshakeException;
import io.netty.handler.codec.http.websocketx.WebSocketClientProtocolConfig;
import io.netty.handler.codec.http.websocketx.WebSocketClientProtocolHandler;
import io.netty.handler.codec.http.websocketx.WebSocketClientProtocolHandler.ClientHandshakeStateEvent;
import io.netty.handler.codec.http.websocketx.WebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketFrameAggregator;
import io.netty.handler.codec.http.websocketx.extensions.compression.WebSocketClientCompressionHandler;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import io.netty.util.Version;
import java.io.File;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/** Netty's handlers, with the offer of permessage-deflate. They answer pings and close frames by themselves. */
final class NettyClient implements Client {
    private static final int ANSWER_BYTES_MAX = 64 * 1024;
    private static final int MESSAGE_BYTES_MAX = 2 * 1024 * 1024;

    private final EventLoopGroup loops = new MultiThreadIoEventLoopGroup(1, NioIoHandler.newFactory());
    private final SslContext trusting;
    private final SslContext strange;

    NettyClient(File ca) throws Exception {
        trusting = SslContextBuilder.forClient().trustManager(ca).build();
        strange = SslContextBuilder.forClient().build();
    }

    @Override
    public String name() {
        return "netty " + Version.identify().get("netty-codec-http").artifactVersion();
    }

    @Override
    public Connection connect(URI uri, String key, boolean trusting) throws Exception {
        return connect(trusting ? this.trusting : strange, uri, key, false);
    }

    /** Netty sends an `Origin` that equals `Host` unless it is told not to; the checks of {@link Main} are made without it. */
    @Override
    public void checkOwn(Checks checks, URI uri, String key) throws Exception {
        checks.check("its offer of permessage-deflate is not accepted", connect(uri, key, true).extensions, "");
        String found = "connected";
        try {
            connect(trusting, uri, key, true);
        } catch (Refused refused) {
            found = refused.getMessage();
        }
        checks.check("with its default headers, an Origin equal to Host among them, it is let in", found, "connected");
    }

    private Connection connect(SslContext tls, URI uri, String key, boolean origin) throws Exception {
        var connection = new NettyConnection();
        var config = WebSocketClientProtocolConfig.newBuilder()
                .webSocketUri(uri)
                .allowExtensions(true)
                .customHeaders(new DefaultHttpHeaders().add("api-key", key))
                .generateOriginHeader(origin)
                .dropPongFrames(false)
                .build();
        var handlers = new ChannelInitializer<Channel>() {
            @Override
            protected void initChannel(Channel channel) {
                channel.pipeline().addLast(
                        tls.newHandler(channel.alloc(), uri.getHost(), uri.getPort()),
                        new HttpClientCodec(),
                        new HttpObjectAggregator(ANSWER_BYTES_MAX),
                        new WebSocketClientCompressionHandler(MESSAGE_BYTES_MAX),
                        connection.new Frames(),
                        new WebSocketClientProtocolHandler(config),
                        new WebSocketFrameAggregator(MESSAGE_BYTES_MAX),
                        connection.new Messages());
            }
        };
        var bootstrap = new Bootstrap().group(loops).channel(NioSocketChannel.class).handler(handlers);
        connection.channel = bootstrap.connect(uri.getHost(), uri.getPort()).sync().channel();
        try {
            connection.opened.get(5, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof WebSocketClientHandshakeException answer && answer.response() != null) {
                throw new Refused(answer.response().status().code());
            }
            throw error;
        }
        return connection;
    }

    private static final class NettyConnection extends Connection {
        /** Completed once the upgrade is done, with the error where it failed. */
        final CompletableFuture<Void> opened = new CompletableFuture<>();
        Channel channel;

        @Override
        void send(String text) {
            channel.writeAndFlush(new TextWebSocketFrame(text)).syncUninterruptibly();
        }

        @Override
        void ping(String payload) {
            var bytes = Unpooled.copiedBuffer(payload, StandardCharsets.UTF_8);
            channel.writeAndFlush(new PingWebSocketFrame(bytes)).syncUninterruptibly();
        }

        @Override
        void close(int code, String reason) {
            channel.writeAndFlush(new CloseWebSocketFrame(code, reason)).syncUninterruptibly();
        }

        /** Stands before Netty's protocol handler, which passes neither pings nor close frames on. */
        final class Frames extends ChannelInboundHandlerAdapter {
            @Override
            public void channelRead(ChannelHandlerContext context, Object message) {
                if (message instanceof FullHttpResponse answer) {
                    extensions = answer.headers().get("Sec-WebSocket-Extensions", "");
                } else if (message instanceof PingWebSocketFrame) {
                    pings.incrementAndGet();
                } else if (message instanceof CloseWebSocketFrame frame) {
                    closed.complete(new Closed(frame.statusCode(), frame.reasonText()));
                }
                context.fireChannelRead(message);
            }
        }

        final class Messages extends SimpleChannelInboundHandler<WebSocketFrame> {
            @Override
            protected void channelRead0(ChannelHandlerContext context, WebSocketFrame frame) {
                if (frame instanceof TextWebSocketFrame text) {
                    messages.add(text.text());
                } else if (frame instanceof PongWebSocketFrame pong) {
                    pongs.add(pong.content().toString(StandardCharsets.UTF_8));
                }
            }

            @Override
            public void userEventTriggered(ChannelHandlerContext context, Object event) {
                if (event == ClientHandshakeStateEvent.HANDSHAKE_COMPLETE) {
                    opened.complete(null);
                }
            }

            @Override
            public void exceptionCaught(ChannelHandlerContext context, Throwable error) {
                opened.completeExceptionally(error);
                closed.complete(new Closed(1006, error.toString()));
                context.close();
            }

            @Override
            public void channelInactive(ChannelHandlerContext context) {
                opened.completeExceptionally(new Exception("closed before it was open"));
                closed.complete(new Closed(1006, "closed without a close frame"));
            }
        }
    }
}
