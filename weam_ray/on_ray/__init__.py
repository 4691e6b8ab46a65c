"""The edge: where stages run, how many at once, and who is told. Alone imports ray and mlflow.

``cluster`` starts or joins Ray · ``data`` reads, cleans and aligns corpora with Ray Data ·
``tune`` runs jobs (a cell, a shared stage) as Ray Tune trials · ``tracking`` writes MLflow.
"""
