import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.PropertyNamingStrategy;
import com.alibaba.fastjson2.TypeReference;
import com.alibaba.fastjson2.annotation.JSONType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Parses, prices, keeps a total for each user and team and day, and writes rows to ClickHouse.
 *
 * <p>The totals live in RocksDB behind Kafka Streams' own cache, in windows of a day, with a changelog in Kafka:
 * durable. The topic's key is the user, so users need no repartitioning; teams do, and what is sent there is the team
 * and the cost only. The guarantee is the default, at-least-once, for the totals: after a crash those count some events
 * twice. A row waits in memory for its batch, and Kafka Streams has no hook for a processor before it commits, so a
 * crash can lose up to a batch of rows. The threads, buffers, caches and intervals are the defaults.
 */
public final class KafkaStreamsMeter {
    private static final int BATCH = 10_000;
    private static final Duration DAY = Duration.ofDays(1);
    private static final Map<String, long[]> PRICES =
            JSON.parseObject(System.getenv("BENCH_PRICES"), new TypeReference<Map<String, long[]>>() {});

    /** The fields of an event that are needed; a count that is missing is 0. */
    @JSONType(naming = PropertyNamingStrategy.SnakeCase)
    record Usage(
            String eventId, Instant timestamp, String userId, String teamId, String provider, String model,
            String operation, int inputTokens, int outputTokens, int cacheReadTokens) {
        long cost() {
            long[] price = PRICES.get(model);
            return (inputTokens - cacheReadTokens) * price[0] + outputTokens * price[1] + cacheReadTokens * price[2];
        }
    }

    /** What a user or a team has spent. */
    record Total(long requests, long cost) {
        private static final Total NONE = new Total(0, 0);
        private static final Serde<Total> SERDE = Serdes.serdeFrom(
                (topic, total) -> ByteBuffer.allocate(16).putLong(total.requests).putLong(total.cost).array(),
                (topic, bytes) -> new Total(ByteBuffer.wrap(bytes).getLong(0), ByteBuffer.wrap(bytes).getLong(8)));

        Total plus(long more) {
            return new Total(requests + 1, cost + more);
        }
    }

    /** Rows for one table in ClickHouse's RowBinary; all tasks share one, so that a batch is large. */
    static final class Inserts {
        private static final int LARGEST_ROW = 16_384;
        private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        private final ByteBuffer body = ByteBuffer.allocate(4 << 20).order(ByteOrder.LITTLE_ENDIAN);
        private final URI uri;
        private int rows;

        Inserts(String table, String columns) {
            String query = "INSERT INTO " + table + " (" + columns + ") FORMAT RowBinary";
            uri = URI.create(System.getenv("BENCH_CLICKHOUSE") + "/?query="
                    + URLEncoder.encode(query, StandardCharsets.UTF_8));
        }

        synchronized void usage(Usage usage, long cost) {
            text(usage.eventId);
            Instant at = usage.timestamp;
            body.putLong(at.getEpochSecond() * 1_000_000 + at.getNano() / 1_000);
            text(usage.userId);
            text(usage.teamId);
            text(usage.provider);
            text(usage.model);
            text(usage.operation);
            body.putInt(usage.inputTokens).putInt(usage.outputTokens).putInt(usage.cacheReadTokens).putLong(cost);
            end();
        }

        synchronized void total(String scope, KeyValue<Windowed<String>, Total> entry) {
            text(scope);
            text(entry.key.key());
            body.putShort((short) (entry.key.window().start() / DAY.toMillis()));
            body.putLong(entry.value.requests).putLong(entry.value.cost);
            end();
        }

        synchronized void flush() {
            if (rows == 0) {
                return;
            }
            HttpRequest request = HttpRequest.newBuilder(uri)
                    .POST(BodyPublishers.ofByteArray(body.array(), 0, body.position()))
                    .build();
            try {
                var response = http.send(request, BodyHandlers.ofString());
                if (response.statusCode() != 200) {
                    throw new IllegalStateException(response.body());
                }
            } catch (IOException | InterruptedException error) {
                throw new IllegalStateException(error);
            }
            body.clear();
            rows = 0;
        }

        private void end() {
            if (++rows == BATCH || body.remaining() < LARGEST_ROW) {
                flush();
            }
        }

        private void text(String value) {
            byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
            int length = bytes.length;
            for (; length > 127; length >>>= 7) {
                body.put((byte) (length | 128));
            }
            body.put((byte) length).put(bytes);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Inserts rows = new Inserts(
                System.getenv("BENCH_ROWS"),
                "event_id, timestamp, user_id, team_id, provider, model, operation, "
                        + "input_tokens, output_tokens, cache_read_tokens, cost_pico_usd");
        CountDownLatch isThrough = new CountDownLatch(1);
        KafkaStreams streams = new KafkaStreams(topology(rows, isThrough), properties());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        isThrough.await();
        rows.flush();
        Inserts totals = new Inserts(System.getenv("BENCH_TOTALS"), "scope, scope_id, day, requests, cost_pico_usd");
        for (String scope : new String[] {"user", "team"}) {
            var store = streams.store(
                    StoreQueryParameters.fromNameAndType(scope, QueryableStoreTypes.<String, Total>windowStore()));
            try (var all = store.all()) {
                all.forEachRemaining(entry -> totals.total(scope, entry));
            }
        }
        totals.flush();
        signal("done");
        streams.close();
    }

    /** A user's total and the row are written in the first task, a team's total in a second, behind a topic. */
    private static Topology topology(Inserts rows, CountDownLatch isThrough) {
        long events = Long.parseLong(System.getenv("BENCH_EVENTS"));
        long warm = Long.parseLong(System.getenv("BENCH_WARM"));
        AtomicLong taken = new AtomicLong();
        AtomicLong summed = new AtomicLong();
        TimeWindows days = TimeWindows.ofSizeAndGrace(DAY, DAY);
        Serde<Usage> json = Serdes.serdeFrom(
                (topic, usage) -> JSON.toJSONBytes(usage), (topic, bytes) -> JSON.parseObject(bytes, Usage.class));

        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, Usage> usages = builder.stream(
                System.getenv("BENCH_TOPIC"),
                Consumed.with(Serdes.String(), json)
                        .withTimestampExtractor((record, now) -> ((Usage) record.value()).timestamp.toEpochMilli()));
        usages.groupByKey().windowedBy(days).aggregate(
                () -> Total.NONE, (user, usage, total) -> total.plus(usage.cost()), stored("user"));
        usages.foreach((user, usage) -> {
            rows.usage(usage, usage.cost());
            if (taken.incrementAndGet() == warm) {
                signal("warm");
            }
        });
        KStream<String, Long> costs = usages.map((user, usage) -> KeyValue.pair(usage.teamId, usage.cost()))
                .repartition(Repartitioned.with(Serdes.String(), Serdes.Long()));
        costs.groupByKey().windowedBy(days).aggregate(
                () -> Total.NONE, (team, cost, total) -> total.plus(cost), stored("team"));
        // After the totals, so that they hold what is counted here.
        costs.foreach((team, cost) -> {
            if (summed.incrementAndGet() == events) {
                isThrough.countDown();
            }
        });
        return builder.build();
    }

    private static Materialized<String, Total, WindowStore<Bytes, byte[]>> stored(String name) {
        return Materialized.<String, Total, WindowStore<Bytes, byte[]>>as(name)
                .withKeySerde(Serdes.String())
                .withValueSerde(Total.SERDE);
    }

    private static Properties properties() {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "bench-" + UUID.randomUUID());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BENCH_BROKER"));
        properties.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("BENCH_FOLDER") + "/streams");
        return properties;
    }

    private static void signal(String name) {
        try {
            Files.createFile(Path.of(System.getenv("BENCH_FOLDER"), name));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
