-- Case (a): :rows photos of about 1 kB, each with an embedding of 512 dimensions near one of 64 centres.
SELECT setseed(0.5) \g /dev/null

CREATE TABLE asset (
  id uuid PRIMARY KEY,
  "ownerId" uuid NOT NULL,
  "originalPath" text NOT NULL,
  "originalFileName" varchar NOT NULL,
  "createdAt" timestamptz NOT NULL,
  "localDateTime" timestamptz NOT NULL,
  width integer,
  height integer,
  latitude double precision,
  longitude double precision,
  "isFavorite" boolean NOT NULL,
  checksum bytea NOT NULL,
  thumbhash bytea,
  tags text[] NOT NULL,
  exif jsonb NOT NULL,
  description text NOT NULL
);
CREATE TABLE smart_search (
  "assetId" uuid PRIMARY KEY,
  embedding vector(512) NOT NULL
);

INSERT INTO asset
SELECT md5(n::text)::uuid,
       md5((n % 4)::text)::uuid,
       '/data/library/' || md5('owner' || n) || '/' || n || '/' || md5('file' || n) || '.jpg',
       'IMG_' || n || '.jpg',
       '2020-01-01 00:00+00'::timestamptz + n * interval '61 s',
       '2020-01-01 02:00+00'::timestamptz + n * interval '61 s',
       4032, 3024,
       CASE WHEN n % 5 > 0 THEN random() * 180 - 90 END,
       CASE WHEN n % 5 > 0 THEN random() * 360 - 180 END,
       n % 20 = 0,
       sha256(n::text::bytea),
       decode(md5('thumb' || n), 'hex'),
       ARRAY['year ' || n % 10, 'place ' || n % 300],
       jsonb_build_object('make', 'Maker ' || n % 12, 'iso', 100 * (n % 30), 'lens', md5('lens' || n % 40), 'unique', md5('exif' || n)),
       (SELECT string_agg(md5(n || '-' || part), ' ') FROM generate_series(1, 16) AS part)
FROM generate_series(1, :rows) AS n;

CREATE TEMPORARY TABLE centre AS
SELECT theme, array_agg(random() - 0.5 ORDER BY dimension) AS value
FROM generate_series(0, 63) AS theme, generate_series(1, 512) AS dimension
GROUP BY theme;
INSERT INTO smart_search
SELECT md5(n::text)::uuid,
       (SELECT array_agg(value + (random() - 0.5) * 0.4) FROM unnest(c.value) AS value WHERE n > 0)::vector(512)
FROM generate_series(1, :rows) AS n JOIN centre c ON c.theme = n % 64
ORDER BY n;

ALTER TABLE smart_search ADD FOREIGN KEY ("assetId") REFERENCES asset ON DELETE CASCADE;
CREATE UNIQUE INDEX "UQ_asset_checksum" ON asset ("ownerId", checksum);
CREATE INDEX "IDX_asset_createdAt" ON asset ("createdAt");
CREATE INDEX "IDX_asset_originalFileName" ON asset ("originalFileName");
VACUUM (FREEZE, ANALYZE) asset, smart_search;
